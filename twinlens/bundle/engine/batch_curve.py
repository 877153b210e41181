"""How long a batch takes by its size, and from which size on a larger one gains nothing.

What must stay true: a curve has increasing sizes and positive times; its knee is one of its sizes;
scaling all times does not move it; and measuring ends after its time, but for one batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LARGEST: Final = 256
SECONDS: Final = 4.0  # of measuring
_SHARE: Final = 0.97  # of the best rate: for less than this nobody waits for a larger batch
_ROUNDS: Final = (2, 20)  # of a size, at least and at most
_QUICK: Final = (
    0.1  # seconds of a size while rounds are left: a moment of a busy machine tells little
)
_FLAT: Final = 3  # sizes in a row without a better rate, after which no further one is tried
_BETTER: Final = 1.02


@dataclass(frozen=True)
class BatchCurve:
    """(size, seconds) of one batch, smallest first."""

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        """Raise `ValueError` for what cannot have been measured."""
        sizes = [size for size, _ in self.points]
        if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise ValueError(f"sizes of batches are {sizes}; they must increase from 1")
        if any(not seconds > 0 for _, seconds in self.points):
            raise ValueError("a batch took no time")

    @property
    def knee(self) -> int:
        """The smallest size that reaches nearly the best rate: more only adds latency."""
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
    """Time batches of doubling sizes until their rate stays, or the time is used up.

    `clock` bounds the time; batches are compared by `cost`, the clock's unless given: on a CPU that
    is CPU time, since a busy machine interrupts long batches more than short ones. The first run of
    a size does not count where another follows: it prepares memory and kernels.
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

    The first counts only where no other follows.
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
