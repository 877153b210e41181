"""How long items take, as measured recently: texts by their tokens, images one by one.

What must stay true: small batches of texts are not measured, since their fixed cost would make
estimates of large work several times too long; one slow batch changes no estimate; before enough
batches were measured, every estimate is 0.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Protocol

LEAST_TOKENS = 512  # of a batch of texts that is measured
_LEAST_BATCHES = 4  # measured before anything is estimated: the first ones warm up
_RECENT_BATCHES = 16


class Speed(Protocol):
    """How long so many tokens or images take."""

    def seconds_for(self, units: float) -> float:
        """Return how long so many will take; 0 while nothing is known."""
        ...


class MeasuredSpeed:
    """The median of recent batches."""

    def __init__(self, least: int = 1) -> None:
        self._least = least
        self._recent: deque[float] = deque(maxlen=_RECENT_BATCHES)  # seconds a unit
        self._unit_seconds = 0.0

    def observe(self, units: int, seconds: float) -> None:
        """Record a batch; tokens are counted with the padding."""
        if units < self._least:
            return
        self._recent.append(seconds / units)
        if len(self._recent) >= _LEAST_BATCHES:
            self._unit_seconds = median(self._recent)

    def seconds_for(self, units: float) -> float:
        """Return how long so many will take; 0 while nothing is known."""
        return units * self._unit_seconds


class ImageSpeed:
    """Decoding, on several threads, and encoding."""

    def __init__(self, threads: int) -> None:
        self.decoding = MeasuredSpeed()
        self.encoding = MeasuredSpeed()
        self._threads = threads

    def seconds_for(self, units: float) -> float:
        """Return how long so many images will take; 0 while nothing is known."""
        decoding = self.decoding.seconds_for(units) / self._threads
        return decoding + self.encoding.seconds_for(units)
