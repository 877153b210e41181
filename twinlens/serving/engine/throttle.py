"""Keeps large requests and background work out of the way of small requests, over all towers.

Towers share the machine, so separate queues are not enough: the class bank of a large request in
the text tower would double the time of images. While anything that comes first is between
acceptance and answer, what comes behind it runs in small batches and gets a fifth of the time;
otherwise it runs at full speed. What must stay true: that fifth is never taken away, so whatever
was accepted ends.
"""

from __future__ import annotations

import math
import threading

from twinlens.serving.call import Priority

CHECK_SECONDS = 0.02  # seconds between checks whether work that waits may run
SHORTEST_WAIT = 1e-5  # a shorter wait is skipped (rounding could make it endless)

_PAUSE_RATIO = 4.0  # seconds of pause after each second of work while what comes first runs
_SIZE_DIVISOR = 4  # divides the size of batches while what comes first runs, and shortly after
_RECENT_SECONDS = 1.0  # where there was a small request there will be another


class Throttle:
    """Counts the items that come first; decides when the next batch may run, and its size."""

    def __init__(self) -> None:
        self._ahead = 0
        self._next = 0.0
        self._seen = -math.inf  # when an item that comes first was last noticed
        self._has_come = False  # one came since then
        self._lock = threading.Lock()

    def enter(self, count: int) -> None:
        """Count items that come first in, or with a minus out."""
        with self._lock:
            self._ahead += count
            self._has_come = self._has_come or count > 0

    @property
    def is_busy(self) -> bool:
        """Whether anything that comes first waits for its answer."""
        return self._ahead > 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next batch may run."""
        return max(0.0, self._next - now) if self.is_busy else 0.0

    def size(self, most: int, now: float) -> int:
        """Return how many items a batch may hold now."""
        if self.is_busy or self._has_come:
            self._seen, self._has_come = now, False
        is_alone = now - self._seen > _RECENT_SECONDS
        return most if is_alone else max(1, most // _SIZE_DIVISOR)

    def record_run(self, now: float, seconds: float) -> None:
        """Record a batch that ended at `now`."""
        self._next = now + _PAUSE_RATIO * seconds


class Throttles:
    """One for large requests, which small ones pass, and one for background work."""

    def __init__(self) -> None:
        self._of = {Priority.LARGE: Throttle(), Priority.BACKGROUND: Throttle()}

    def enter(self, priority: Priority, count: int) -> None:
        """Count items that were accepted in, or with a minus out."""
        for behind, throttle in self._of.items():
            if priority < behind:
                throttle.enter(count)

    def delay(self, priority: Priority, now: float) -> float:
        """Return the seconds until the next batch of a priority may run."""
        return self._of[priority].delay(now) if priority in self._of else 0.0

    def size(self, priority: Priority, most: int, now: float) -> int:
        """Return how many items its next batch may hold."""
        return self._of[priority].size(most, now) if priority in self._of else most

    def record_run(self, priority: Priority, now: float, seconds: float) -> None:
        """Record a batch of it that ended at `now`."""
        if priority in self._of:
            self._of[priority].record_run(now, seconds)
