"""Micro-batches of one tower: a queue with a live and a background lane, emptied by one worker.

Knows no model and no HTTP; time comes from a clock that is passed in. What must stay true: every
queued item is answered exactly once, and an item that no client waits for is never run.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from twinlens.errors import OverloadedError
from twinlens.serving.clock import Clock
from twinlens.serving.engine.throttle import BackgroundThrottle
from twinlens.serving.engine.window import NoWindow, Window
from twinlens.serving.failures import DeadlineError

_CHECK_SECONDS = 0.02  # seconds between checks whether background work may run
# A shorter wait is skipped (rounding could make it endless).
_SHORTEST_WAIT = 1e-5

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


class Ticket(Generic[AnswerT]):
    """The answers of one request, filled item by item from any thread.

    `notify` runs once, when the last answer is set.
    """

    __slots__ = (
        "_lock",
        "_notify",
        "_remaining",
        "abandoned",
        "answers",
        "deadline",
        "ended",
        "queued",
        "started",
    )

    def __init__(
        self, size: int, notify: Callable[[], None], *, deadline: float = math.inf
    ) -> None:
        self.answers: list[AnswerT | Exception | None] = [None] * size
        self.deadline = deadline
        self.abandoned = False
        self.queued = math.inf  # when the first item was queued
        self.started = math.inf  # when the first batch with one of its items began
        self.ended = 0.0  # when the last such batch ended
        self._remaining = size
        self._notify = notify
        self._lock = threading.Lock()

    def resolve(self, index: int, answer: AnswerT | Exception) -> None:
        """Set one answer; a second one for the same item is dropped."""
        with self._lock:
            if self.answers[index] is not None:
                return
            self.answers[index] = answer
            self._remaining -= 1
            is_last = self._remaining == 0
        if is_last and not self.abandoned:
            self._notify()

    def abandon(self) -> None:
        """Cancel: items that have not begun are dropped."""
        self.abandoned = True


class QueueEntry(Generic[ItemT, AnswerT]):
    """One queued item."""

    __slots__ = ("bucket", "index", "item", "order", "ticket")

    def __init__(self, ticket: Ticket[AnswerT], index: int, item: ItemT, bucket: int = 0) -> None:
        self.ticket = ticket
        self.index = index
        self.item = item
        self.bucket = bucket
        self.order = 0

    def is_wanted(self, now: float) -> bool:
        """Return whether to run it; one past its deadline is answered with an error here."""
        if self.ticket.abandoned:
            return False
        if now > self.ticket.deadline:
            self.ticket.resolve(
                self.index, DeadlineError("the request's deadline passed while it was queued")
            )
            return False
        return True


class _Lane(Generic[ItemT, AnswerT]):
    """Entries in order of arrival, per bucket, so that a batch holds items of similar size."""

    def __init__(self) -> None:
        self._buckets: dict[int, deque[tuple[float, QueueEntry[ItemT, AnswerT]]]] = {}
        self.count = 0

    def put(self, entry: QueueEntry[ItemT, AnswerT], now: float) -> None:
        self._buckets.setdefault(entry.bucket, deque()).append((now, entry))
        self.count += 1

    def oldest(self) -> deque[tuple[float, QueueEntry[ItemT, AnswerT]]]:
        """Return the bucket with the longest-waiting entry; the lane must not be empty."""
        filled = (bucket for bucket in self._buckets.values() if bucket)
        return min(filled, key=lambda bucket: bucket[0][1].order)

    def take(self, most: int, now: float) -> list[QueueEntry[ItemT, AnswerT]]:
        """Remove and return up to `most` wanted entries of one bucket; drop unwanted ones."""
        batch: list[QueueEntry[ItemT, AnswerT]] = []
        while self.count and not batch:
            bucket = self.oldest()
            while bucket and len(batch) < most:
                entry = bucket.popleft()[1]
                self.count -= 1
                if entry.is_wanted(now):
                    batch.append(entry)
        return batch


class Batcher(Generic[ItemT, AnswerT]):
    """A bounded queue in front of one worker.

    `hold` counts items from acceptance to answer, so that the bound covers decoding too.
    """

    def __init__(
        self,
        *,
        capacity: int,
        max_batch: int,
        name: str = "items",
        window: Window | None = None,
        clock: Clock | None = None,
        throttle: BackgroundThrottle | None = None,
    ) -> None:
        self.capacity = capacity
        self.max_batch = max_batch
        self.name = name
        self.held = 0
        self._window = window or NoWindow()
        self._clock = clock or Clock()
        self._throttle = throttle or BackgroundThrottle()
        self._took_background = False
        self._live: _Lane[ItemT, AnswerT] = _Lane()
        self._background: _Lane[ItemT, AnswerT] = _Lane()
        self._changed = threading.Condition()
        self._order = 0
        self._closed = False
        self._item_seconds = 0.01

    def hold(self, count: int) -> None:
        """Count items in, or refuse all of them when they do not fit."""
        with self._changed:
            if self.held + count > self.capacity:
                raise OverloadedError(
                    f"{self.held} of {self.capacity} places for {self.name} are in use and "
                    f"{count} more were requested; try again later",
                    retry_after=self.backlog_seconds,
                )
            self.held += count

    def release(self, count: int) -> None:
        """Count items out again."""
        with self._changed:
            self.held -= count

    @property
    def room(self) -> int:
        """The number of items that still fit."""
        return max(0, self.capacity - self.held)

    @property
    def is_full(self) -> bool:
        """Whether no further item fits."""
        return not self.room

    @property
    def is_closed(self) -> bool:
        """Whether the batcher has been closed."""
        return self._closed

    @property
    def depth(self) -> int:
        """Items that wait for a worker."""
        return self._live.count + self._background.count

    @property
    def backlog_seconds(self) -> float:
        """The seconds that the held items will take at the recent rate."""
        return min(30.0, max(0.05, self.held * self._item_seconds))

    def put(
        self, entries: Iterable[QueueEntry[ItemT, AnswerT]], *, background: bool = False
    ) -> None:
        """Queue entries; background ones run only when no live one waits."""
        now = self._clock.now()
        lane = self._background if background else self._live
        with self._changed:
            for entry in entries:
                self._order += 1
                entry.order = self._order
                entry.ticket.queued = min(entry.ticket.queued, now)
                lane.put(entry, now)
            self._changed.notify()

    def take(
        self, is_retired: Callable[[], bool] = lambda: False
    ) -> list[QueueEntry[ItemT, AnswerT]]:
        """Return the next batch, waiting for one; empty when closed or the caller is retired."""
        with self._changed:
            while not self._closed and not is_retired():
                now = self._clock.now()
                pause = self._pause(now)
                if pause is None or pause > _SHORTEST_WAIT:
                    self._clock.wait(self._changed, pause)
                    continue
                self._took_background = not self._live.count
                if self._took_background:
                    batch = self._background.take(self._throttle.size(self.max_batch), now)
                else:
                    batch = self._live.take(self.max_batch, now)
                if batch:
                    return batch
        return []

    def _pause(self, now: float) -> float | None:
        """Return the seconds to wait before taking a batch; None: until something changes."""
        if self._live.count:
            waited = now - self._live.oldest()[0][0]
            return self._window.delay(self._live.count, waited)
        if self._background.count:
            return min(_CHECK_SECONDS, self._throttle.delay(now))
        return None

    def observe(self, items: int, seconds: float) -> None:
        """Record a batch's time, for the window, Retry-After and the background throttle."""
        if self._took_background:
            self._throttle.record_run(self._clock.now(), seconds)
        self._window.observe(items, seconds)
        self._item_seconds += 0.2 * (seconds / max(1, items) - self._item_seconds)

    def wake(self) -> None:
        """Wake waiting workers so that they check whether they are retired."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Close: `take` returns empty from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def choose_bucket(size: int, bounds: Sequence[int]) -> int:
    """Return the smallest bound that holds `size`, or the largest."""
    return bounds[min(bisect_left(bounds, size), len(bounds) - 1)]
