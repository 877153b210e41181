"""The time of a batch by its size, and the size beyond which larger ones gain nothing.

What must stay true: a curve has increasing sizes and positive times; its knee is one of its sizes
and does not depend on the unit of time; measuring ends after its time limit plus one batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LARGEST: Final = 256
SECONDS: Final = 4.0  # seconds of measuring
_SHARE: Final = 0.97  # of the best rate: a smaller gain is not worth waiting for a larger batch
_ROUNDS: Final = (2, 20)  # runs of a size, at least and at most
_QUICK: Final = 0.1  # seconds per size while rounds are left: short measurements are unreliable
_FLAT: Final = 3  # sizes in a row without a better rate before measuring ends
_BETTER: Final = 1.02


@dataclass(frozen=True)
class BatchCurve:
    """(size, seconds) of one batch, smallest first."""

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        """Raise `ValueError` for values that cannot have been measured."""
        sizes = [size for size, _ in self.points]
        if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise ValueError(f"sizes of batches are {sizes}; they must increase from 1")
        if any(not seconds > 0 for _, seconds in self.points):
            raise ValueError("a batch took no time")

    @property
    def knee(self) -> int:
        """The smallest size that nearly reaches the best rate: larger ones only add latency."""
        best = max(size / seconds for size, seconds in self.points)
        return next(n for n, seconds in self.points if n / seconds >= _SHARE * best)


def measure_curve(
    run: Callable[[int], object],
    *,
    largest: int = LARGEST,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    cost: Callable[[], float] | None = None,
) -> BatchCurve:
    """Time batches of doubling sizes until their rate stops rising, or the time is used up.

    `clock` bounds the time; batches are compared by `cost`, by default the clock's: on a CPU that
    is CPU time, since a busy machine interrupts long batches more than short ones. The first run of
    a size is dropped if another follows: it allocates memory and prepares kernels.
    """
    ends = clock() + seconds
    points: list[tuple[int, float]] = []
    best, last, flat, size = 0.0, 0.0, 0, 1
    while size <= largest and flat < _FLAT:
        if points and clock() + 2 * last * 2 > ends:  # two runs, each twice as long
            break
        taken, last = _time(run, size, ends, clock, cost or clock)
        points.append((size, taken))
        rate = size / points[-1][1]
        flat = 0 if rate > _BETTER * best else flat + 1
        best = max(best, rate)
        size *= 2
    return BatchCurve(tuple(points))


def _time(
    run: Callable[[int], object],
    size: int,
    ends: float,
    clock: Callable[[], float],
    cost: Callable[[], float],
) -> tuple[float, float]:
    """Return the least cost of some runs and the seconds of the last.

    The first counts only if no other follows.
    """
    taken: list[float] = []
    least, most = _ROUNDS
    total = seconds = 0.0
    while len(taken) <= least or (len(taken) <= most and total < _QUICK):
        began, spent = clock(), cost()
        run(size)
        taken.append(cost() - spent)
        seconds = clock() - began
        total += seconds
        if clock() + seconds > ends:
            break
    return max(min(taken[1:] or taken), 1e-9), seconds
