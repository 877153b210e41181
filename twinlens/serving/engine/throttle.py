"""Throttles background work while live requests run, over all towers of a server.

Towers share the machine, so separate queues are not enough: a long build of class embeddings in the
text tower would halve the throughput of images. While any live item is between acceptance and
answer, background batches are small and get a fifth of the time; otherwise they run at full speed.
"""

from __future__ import annotations

import threading

_PAUSE_RATIO = 4.0  # seconds of pause after each second of background work while live work runs
_SIZE_DIVISOR = 4  # divides the size of background batches while live work runs


class BackgroundThrottle:
    """Counts live items, and decides when the next background batch may run and its size."""

    def __init__(self) -> None:
        self._live = 0
        self._next = 0.0
        self._lock = threading.Lock()

    def enter(self, count: int) -> None:
        """Count live items that were accepted."""
        with self._lock:
            self._live += count

    def leave(self, count: int) -> None:
        """Count live items that were answered."""
        self.enter(-count)

    @property
    def is_busy(self) -> bool:
        """Whether any live item waits for an answer."""
        return self._live > 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next background batch may run."""
        return max(0.0, self._next - now) if self.is_busy else 0.0

    def size(self, most: int) -> int:
        """Return how many items a background batch may hold now."""
        return max(1, most // _SIZE_DIVISOR) if self.is_busy else most

    def record_run(self, now: float, seconds: float) -> None:
        """Record a background batch that ended at `now`."""
        self._next = now + _PAUSE_RATIO * seconds
