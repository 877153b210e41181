"""How background work keeps out of the way of live requests, over all towers of a server.

Towers share the machine, so a queue of one's own is not enough: a long build of class embeddings in
the text tower would halve what is left for images. While any live item is between acceptance and
answer, background batches are small and take a fifth of the time; else they go at full speed.
"""

from __future__ import annotations

import threading

_REST = 4.0  # seconds of rest after each second of background work beside live work
_SMALLER = 4  # so many times smaller is a background batch beside live work


class BackgroundThrottle:
    """Counts live items, and says when the next background batch may go and how large."""

    def __init__(self) -> None:
        self._live = 0
        self._next = 0.0
        self._lock = threading.Lock()

    def enter(self, count: int) -> None:
        """Count live items in."""
        with self._lock:
            self._live += count

    def leave(self, count: int) -> None:
        """Count them out again."""
        self.enter(-count)

    @property
    def is_busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return self._live > 0

    def delay(self, now: float) -> float:
        """Return how long the next background batch still has to rest."""
        return max(0.0, self._next - now) if self.is_busy else 0.0

    def size(self, most: int) -> int:
        """Return how many items a background batch may hold now."""
        return max(1, most // _SMALLER) if self.is_busy else most

    def ran(self, now: float, seconds: float) -> None:
        """Note a background batch that ended now."""
        self._next = now + _REST * seconds
