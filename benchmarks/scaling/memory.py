"""The memory of this process while a stage runs, sampled by a thread.

Held memory is anonymous: the system cannot drop it. Mapped memory is pages of files, which it drops
when other processes need memory. The vectors and the codes of an index are mapped.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SECONDS = 0.2
POINTS = 12  # of a curve that is shown
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class StageUsage:
    """One stage: seconds, and samples of held and mapped gigabytes."""

    name: str
    wall_s: float = 0.0
    cpu_s: float = 0.0
    held: list[float] = field(default_factory=list)
    mapped: list[float] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def held_gb(self) -> float:
        """The peak of held memory."""
        return max(self.held)

    @property
    def mapped_gb(self) -> float:
        """The peak of mapped memory."""
        return max(self.mapped)

    def curve(self) -> list[float]:
        """Return the peak of held memory in each of `POINTS` equal parts of the stage."""
        edges = [round(len(self.held) * part / POINTS) for part in range(POINTS + 1)]
        return [
            max(self.held[low : max(low + 1, high)] or self.held[-1:])
            for low, high in itertools.pairwise(edges)
        ]


class MemorySampler:
    """Samples until its `with` block ends."""

    def __init__(self, usage: StageUsage) -> None:
        self._usage = usage
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            held, mapped = read_memory()
            self._usage.held.append(held)
            self._usage.mapped.append(mapped)
            if self._done.wait(SECONDS):
                return


@contextmanager
def measuring(name: str) -> Iterator[StageUsage]:
    """Measure the block inside: its seconds and its memory."""
    usage = StageUsage(name)
    wall, cpu = time.perf_counter(), time.process_time()
    with MemorySampler(usage):
        yield usage
    usage.wall_s = time.perf_counter() - wall
    usage.cpu_s = time.process_time() - cpu


def read_memory() -> tuple[float, float]:
    """Return the gigabytes that this process holds, and those of files that it maps."""
    text = Path("/proc/self/status").read_text()
    found = {name: int(size) / 1e6 for name, size in re.findall(r"Rss(\w+):\s+(\d+) kB", text)}
    return found["Anon"] + found["Shmem"], found["File"]


def draw_curve(values: list[float]) -> str:
    """Return a curve as bars, its highest value full."""
    top = max(values) or 1.0
    return "".join(_BARS[min(7, int(8 * value / top))] for value in values)
