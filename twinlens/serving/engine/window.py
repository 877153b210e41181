"""How long a free worker waits for a batch to grow, where it waits at all.

On a CPU there is no window: items queue up while a batch runs, and a timer only adds latency.
"""

from __future__ import annotations

import math
from typing import Protocol


class Window(Protocol):
    """How long a free worker waits for a batch to grow."""

    def delay(self, queued: int, waited: float) -> float:
        """Return the seconds still to wait, given the queued items and the oldest one's wait."""
        ...

    def observe(self, items: int, seconds: float) -> None:
        """Record a batch that ran."""
        ...


class LatencyWindow:
    """For devices on which larger batches cost almost nothing: wait for one under concurrent load.

    A single client never waits, and no item waits so long that waiting and running exceed the
    target.
    """

    def __init__(self, most: float, *, target: float = math.inf, full: int = 64) -> None:
        self._most = most
        self._target = target
        self._full = full
        self._batch_seconds = 0.0
        self._last_items = 0

    def delay(self, queued: int, waited: float) -> float:
        """Return the rest of the window; zero for a single client or a full batch."""
        if queued >= self._full or (queued <= 1 and self._last_items <= 1):
            return 0.0
        return max(0.0, min(self._most, self._target - self._batch_seconds) - waited)

    def observe(self, items: int, seconds: float) -> None:
        """Keep a moving average of how long a batch takes."""
        weight = 1.0 if self._batch_seconds == 0 else 0.2
        self._batch_seconds += weight * (seconds - self._batch_seconds)
        self._last_items = items
