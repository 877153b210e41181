"""Alternating loads on a server: items per CPU second of it, and the time of each request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from drills.stage import count_cpu_seconds


def measure_rate(pid: int, ask: Callable[[], object], items: int, seconds: float) -> float:
    """Return items per CPU second of process `pid` while it answers for about so long."""
    ask()
    began, done = count_cpu_seconds(pid), 0
    while count_cpu_seconds(pid) - began < seconds:
        ask()
        done += items
    return done / (count_cpu_seconds(pid) - began)


def measure_times(clients: int, ask: Callable[[], object], seconds: float) -> list[float]:
    """Return sorted seconds of requests by so many clients at once."""
    times: list[float] = []
    end = time.monotonic() + seconds

    def run() -> None:
        while time.monotonic() < end:
            began = time.perf_counter()
            ask()
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times)
