"""Slows large requests and background work while smaller requests are in progress, over all towers.

Towers share the machine, so separate queues are not enough: the class bank of a large request in
the text tower would double the time of images. While a request of a higher priority is in progress,
lower priorities run in small batches and get a fifth of the time; otherwise they run at full speed.
What must stay true: they always keep that fifth, so accepted work finishes.
"""

from __future__ import annotations

import asyncio
import math
import threading

from twinlens.serving.call import Priority

CHECK_SECONDS = 0.02  # seconds between checks whether work that waits may run
SHORTEST_WAIT = 1e-5  # a shorter wait is skipped (rounding could make it endless)

_PAUSE_RATIO = 4.0  # seconds of pause after each second of work, while a higher priority is busy
# While a higher priority is busy, and shortly after, a batch is divided by this and lasts at most:
_SIZE_DIVISOR = 4
_BATCH_SECONDS = 0.004
_RECENT_SECONDS = 1.0  # after a small request another one is likely
_TURN_SECONDS = 0.002  # seconds between checks whether a running batch has ended
_LONGEST_RUN = 1.0  # seconds after which a running batch holds up no other: its worker may hang


class Throttle:
    """Counts items of higher priority; decides when the next batch may run, and its size.

    While there are such items, `at_once` batches run at a time, over all towers and decoding
    threads: a small request then competes with few of them for the processor.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._ahead = 0
        self._running = 0
        self._began = -math.inf  # the batch that began last
        self._next = 0.0
        self._seen = -math.inf  # when an item of higher priority was last noticed
        self._has_come = False  # one came since then
        self._lock = threading.Lock()

    def enter(self, count: int) -> None:
        """Count items of higher priority that enter, or with a negative count leave."""
        with self._lock:
            self._ahead += count
            self._has_come = self._has_come or count > 0

    @property
    def is_busy(self) -> bool:
        """Whether an item of higher priority waits for its answer."""
        return self._ahead > 0

    def delay(self, now: float) -> float:
        """Return the seconds until the next batch may run, or until this should be asked again."""
        if self.is_busy and self._next > now:
            return self._next - now
        is_full = self._running >= self._at_once and now - self._began < _LONGEST_RUN
        return _TURN_SECONDS if is_full and self._is_accompanied(now) else 0.0

    def begin(self, most: int, now: float, item_seconds: float = 0.0) -> int:
        """Count a batch that begins; return how many items of `item_seconds` it may hold."""
        with self._lock:
            self._running = self._running + 1 if now - self._began < _LONGEST_RUN else 1
            self._began = now
        if not self._is_accompanied(now):
            return most
        fitting = int(_BATCH_SECONDS / item_seconds) if item_seconds else most
        return max(1, min(most // _SIZE_DIVISOR, fitting))

    def end(self, now: float, seconds: float) -> None:
        """Record a batch that ended at `now`."""
        with self._lock:
            self._running = max(0, self._running - 1)
        self._next = now + _PAUSE_RATIO * seconds

    def rest(self, seconds: float) -> float:
        """Return how long to pause after `seconds` of work on the event loop."""
        return _PAUSE_RATIO * seconds if self.is_busy else 0.0

    def _is_accompanied(self, now: float) -> bool:
        """Return whether an item of higher priority is there, or was within the last second."""
        if self.is_busy or self._has_come:
            self._seen, self._has_come = now, False
        return now - self._seen < _RECENT_SECONDS


class Throttles:
    """The throttle of large requests, and that of background work."""

    def __init__(self, at_once: int = 1) -> None:
        self._of = {
            Priority.LARGE: Throttle(at_once),
            Priority.BACKGROUND: Throttle(at_once),
        }

    def enter(self, priority: Priority, count: int) -> None:
        """Count accepted items of a priority, or with a negative count answered ones."""
        for behind, throttle in self._of.items():
            if priority < behind:
                throttle.enter(count)

    def delay(self, priority: Priority, now: float) -> float:
        """Return the seconds until the next batch of a priority may run."""
        return self._of[priority].delay(now) if priority in self._of else 0.0

    def begin(self, priority: Priority, most: int, now: float, item_seconds: float = 0.0) -> int:
        """Count a batch that begins; return how many items of `item_seconds` it may hold."""
        return self._of[priority].begin(most, now, item_seconds) if priority in self._of else most

    def end(self, priority: Priority, now: float, seconds: float) -> None:
        """Record a batch of it that ended at `now`."""
        if priority in self._of:
            self._of[priority].end(now, seconds)

    async def give_way(self, priority: Priority, seconds: float) -> None:
        """Let other requests run after `seconds` of work on the event loop.

        A small request needs a dozen turns of the loop; without a pause it would wait for a dozen
        parts of a large request.
        """
        behind = self._of.get(priority)
        await asyncio.sleep(0.0 if behind is None else behind.rest(seconds))
