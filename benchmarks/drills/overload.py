"""Five times the clients that the server can feed: what it refuses, what that costs the rest.

The clients are coroutines that write prepared bytes: threads would wait for each other, and what
they then measure is themselves.
"""

from __future__ import annotations

import time

from report import Report

from drills.stage import (
    Server,
    count_cpu_seconds,
    count_memory,
    make_photo,
    make_request,
    percentile,
    pin,
    press,
    split_cpus,
)

QUEUE = 16  # images that may be between acceptance and answer


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Measure the peak with as many clients as there are places, then offer five times as much."""
    seconds = 5.0 if quick else 60.0
    photo = make_photo()
    asking = make_request("/embed", photo, "image/jpeg")
    cpus, rest = split_cpus()
    setting = f"limits.image_queue={QUEUE}"
    with Server(bundle, "--set", setting, cpus=cpus) as server, pin(rest):
        press(server.port, 5 * QUEUE, asking, 2.0)  # what a first crowd leaves behind is no growth
        began = count_cpu_seconds(server.pid)
        peak = press(server.port, QUEUE, asking, seconds)
        at_peak = count_cpu_seconds(server.pid) - began
        memory = count_memory(server.pid)
        began = count_cpu_seconds(server.pid)
        offered = 5 * peak.count(200) / seconds
        pressed = press(server.port, 5 * QUEUE, asking, seconds, rate=offered)
        at_5x = count_cpu_seconds(server.pid) - began
        grown = count_memory(server.pid) / memory - 1
        recovery = _recover(server, photo)
    # Both by the clock and by the server's own CPU time: on a shared machine only that is its own.
    by_clock = pressed.count(200) / max(1, peak.count(200))
    goodput = (pressed.count(200) / at_5x) / (peak.count(200) / at_peak)
    refused = pressed.seconds(429)
    others = len(pressed.answers) - pressed.count(200, 429)
    p50 = 1000 * percentile(refused, 0.5)
    for what, value in (
        ("peak, images a second", peak.count(200) / seconds),
        ("peak, CPU s a second", at_peak / seconds),
        ("images a second at 5x", pressed.count(200) / seconds),
        ("CPU s a second at 5x", at_5x / seconds),
        ("5x to peak, by the clock", by_clock),
        ("refused a second", len(refused) / seconds),
        ("refusal p50, ms", p50),
        ("refusal p99, ms", 1000 * percentile(refused, 0.99)),
    ):
        report.row(drill="overload", what=what, value=value)
    report.bar("overload_goodput", goodput, 0.95, goodput >= 0.95)
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
