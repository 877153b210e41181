"""Five times the clients that the server can handle: what it refuses, and what that costs the rest.

The clients are coroutines that write prepared bytes: threads would wait for each other and measure
themselves.
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

QUEUE = 16  # images between acceptance and answer


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Measure the peak with as many clients as places, then send five times as many requests.

    The peak is measured before and after, half as long each, so that drift of the machine favours
    neither.
    """
    seconds = 6.0 if quick else 60.0
    asking = make_request("/embed", make_photo(), "image/jpeg")
    cpus, rest = split_cpus()
    setting = f"limits.image_queue={QUEUE}"
    with Server(bundle, "--set", setting, cpus=cpus) as server, pin(rest):
        press(server.port, 5 * QUEUE, asking, 2.0)  # what a first load leaves behind is no growth
        peak = _Phase(server, QUEUE, asking, seconds / 2)
        memory = count_memory(server.pid)
        offered = 5 * peak.answered / (seconds / 2)
        pressed = _Phase(server, 5 * QUEUE, asking, seconds, offered)
        grown = count_memory(server.pid) / memory - 1
        recovery = _recover(server, make_photo())
        peak.add(_Phase(server, QUEUE, asking, seconds / 2))
    # By the clock and by the server's own CPU time: on a shared machine only the latter is its own.
    by_clock = pressed.answered / max(1, peak.answered)
    goodput = (pressed.answered / pressed.cpu) / (peak.answered / peak.cpu)
    refused = pressed.refusals
    p50 = 1000 * percentile(refused, 0.5)
    for what, value in (
        ("peak, images a second", peak.answered / seconds),
        ("peak, CPU s a second", peak.cpu / seconds),
        ("images a second at 5x", pressed.answered / seconds),
        ("CPU s a second at 5x", pressed.cpu / seconds),
        ("5x to peak, by the clock", by_clock),
        ("refused a second", len(refused) / seconds),
        ("refusal p50, ms", p50),
        ("refusal p99, ms", 1000 * percentile(refused, 0.99)),
        ("memory at the peak, MiB", memory),
    ):
        report.row(drill="overload", what=what, value=value)
    report.bar("overload_goodput", goodput, 0.95, goodput >= 0.95)
    report.bar("overload_refusal_ms", p50, 10.0, p50 < 10.0)
    report.bar("overload_memory_growth", grown, 0.05, grown <= 0.05)
    report.bar("overload_other_answers", pressed.others, 0, pressed.others == 0)
    report.bar("overload_recovery_seconds", recovery, 1.0, recovery < 1.0)


class _Phase:
    """What clients measured of a server in some seconds, and its CPU time."""

    def __init__(
        self, server: Server, clients: int, asking: bytes, seconds: float, rate: float = 0.0
    ) -> None:
        began = count_cpu_seconds(server.pid)
        tally = press(server.port, clients, asking, seconds, rate)
        self.cpu = count_cpu_seconds(server.pid) - began
        self.answered = tally.count(200)
        self.refusals = tally.seconds(429)
        self.others = len(tally.answers) - tally.count(200, 429)

    def add(self, other: _Phase) -> None:
        """Add another phase of the same kind."""
        self.cpu += other.cpu
        self.answered += other.answered


def _recover(server: Server, photo: bytes) -> float:
    """Return how long after the overload a request is answered again."""
    began = time.monotonic()
    while server.ask("POST", "/embed", photo, Content_Type="image/jpeg").status != 200:
        time.sleep(0.01)
    return time.monotonic() - began
