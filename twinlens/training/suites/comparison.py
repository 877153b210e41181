"""Comparison: two or more encoders on the same questions, with intervals of their differences.

What must stay true: no encoder is called better if the interval of the difference contains zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinlens.errors import TwinlensError
from twinlens.training.suites.interval import bootstrap_interval
from twinlens.training.suites.result import Result


@dataclass(frozen=True)
class Difference:
    """The difference of the other encoder's score and the first's on one suite."""

    suite: str
    first: float
    other: float
    low: float  # of the difference, other minus first
    high: float
    n: int

    @property
    def change(self) -> float:
        """The other's score minus the first's."""
        return self.other - self.first

    @property
    def winner(self) -> str:
        """`first` or `other`; empty if the interval contains zero."""
        if self.low > 0:
            return "other"
        return "first" if self.high < 0 else ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, rounded, with the winner."""
        numbers = {
            name: getattr(self, name) for name in ("first", "other", "change", "low", "high")
        }
        rounded = {name: round(value, 4) for name, value in numbers.items()}
        return {"suite": self.suite, **rounded, "n": self.n, "winner": self.winner}


def compare_results(first: Result, other: Result, *, seed: int = 0) -> Difference:
    """Return the paired difference of two results of one suite on the same questions."""
    clusters = [outcome.cluster for outcome in first.outcomes]
    if clusters != [outcome.cluster for outcome in other.outcomes]:
        raise TwinlensError(f"suite {first.suite!r} asked two encoders different questions")
    gains = np.array(_scores(other)) - np.array(_scores(first))
    low, high = bootstrap_interval(gains, clusters, seed=seed)
    return Difference(
        first.suite, first.measure.score, other.measure.score, low, high, len(clusters)
    )


def _scores(result: Result) -> Sequence[float]:
    return [outcome.score for outcome in result.outcomes]
