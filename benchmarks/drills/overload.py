"""Five times the clients that the server can feed: what it refuses, what that costs the rest."""

from __future__ import annotations

import time

from report import Report

from drills.stage import (
    Answer,
    Connection,
    Crowd,
    Server,
    count_memory,
    make_photo,
    percentile,
    split_cpus,
)

QUEUE = 8  # images that may be between acceptance and answer


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Measure the peak with as many clients as there are places, then press five times as hard."""
    seconds = 5 if quick else 60
    photos = [make_photo(seed=i) for i in range(8)]

    def ask(connection: Connection) -> Answer:
        photo = photos[time.monotonic_ns() % len(photos)]
        return connection.ask("POST", "/embed", photo, Content_Type="image/jpeg")

    cpus, _ = split_cpus()
    with Server(bundle, "--set", f"limits.image_queue={QUEUE}", cpus=cpus) as server:
        with Crowd(QUEUE, ask, server.port):
            time.sleep(1)
        with Crowd(QUEUE, ask, server.port) as peak:
            time.sleep(seconds)
        memory = count_memory(server.pid)
        with Crowd(5 * QUEUE, ask, server.port) as pressed:
            time.sleep(seconds)
        grown = count_memory(server.pid) / memory - 1
        recovery = _recover(server, photos[0])
    goodput = pressed.count(200) / max(1, peak.count(200))
    refused = pressed.seconds(429)
    others = len(pressed.answers) - pressed.count(200, 429)
    report.row(drill="overload", what="peak, images a second", value=peak.count(200) / seconds)
    report.row(drill="overload", what="images a second at 5x", value=pressed.count(200) / seconds)
    report.row(drill="overload", what="refused a second", value=len(refused) / seconds)
    report.row(drill="overload", what="refusal p50, ms", value=1000 * percentile(refused, 0.5))
    report.row(drill="overload", what="refusal p99, ms", value=1000 * percentile(refused, 0.99))
    report.row(drill="overload", what="recovery, s", value=recovery)
    report.bar("overload_goodput", goodput, 0.95, goodput >= 0.95)
    p50 = 1000 * percentile(refused, 0.5)
    report.bar("overload_refusal_ms", p50, 10.0, p50 < 10.0)
    report.bar("overload_memory_growth", grown, 0.05, grown <= 0.05)
    report.bar("overload_other_answers", others, 0, others == 0)
    report.bar("overload_recovery_seconds", recovery, 1.0, recovery < 1.0)


def _recover(server: Server, photo: bytes) -> float:
    """Return how long after the pressure a request is answered again."""
    began = time.monotonic()
    while server.ask("POST", "/embed", photo, Content_Type="image/jpeg").status != 200:
        time.sleep(0.01)
    return time.monotonic() - began
