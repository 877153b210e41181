"""Micro-batches of one tower: a queue with a lane for each priority, emptied by its workers.

It knows neither models nor HTTP. What must stay true: items of small requests go first, but the
others always keep a share of the time; a batch holds items of one bucket; no large request waits
for ever.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol

from twinlens.errors import OverloadedError
from twinlens.serving.call import Priority
from twinlens.serving.clock import Clock
from twinlens.serving.engine.throttle import CHECK_SECONDS, SHORTEST_WAIT, Throttles
from twinlens.serving.engine.ticket import AnswerT, ItemT, QueueEntry
from twinlens.serving.engine.window import Window


class Lane(Protocol[ItemT, AnswerT]):
    """A queue of one tower's items."""

    count: int

    def put(self, entry: QueueEntry[ItemT, AnswerT], now: float) -> None:
        """Queue an item."""
        ...

    def take(self, most: int, now: float) -> list[QueueEntry[ItemT, AnswerT]]:
        """Remove and return up to `most` wanted items of one bucket."""
        ...


class ArrivalLane(Generic[ItemT, AnswerT]):
    """Entries in order of arrival, per bucket, so that a batch holds items of similar size."""

    def __init__(self) -> None:
        self._buckets: dict[int, deque[tuple[float, QueueEntry[ItemT, AnswerT]]]] = {}
        self.count = 0

    def put(self, entry: QueueEntry[ItemT, AnswerT], now: float) -> None:
        """Queue an item behind those of its bucket."""
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


class FairLane(Generic[ItemT, AnswerT]):
    """Entries by request: the next batch is of the request for which the least work was done.

    A new request starts at the work of the request served last, so it does not overtake those that
    have waited.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, _Share[ItemT, AnswerT]] = {}  # by the request's number
        self._served = 0.0  # the work of the request that was served last, before that batch
        self.count = 0

    def put(self, entry: QueueEntry[ItemT, AnswerT], now: float) -> None:
        """Queue an item behind those of its request."""
        share = self._waiting.get(entry.request)
        if share is None:
            share = self._waiting[entry.request] = _Share(self._served)
        share.lane.put(entry, now)
        self.count += 1

    def take(self, most: int, now: float) -> list[QueueEntry[ItemT, AnswerT]]:
        """Remove and return up to `most` wanted items of the request whose turn it is."""
        batch: list[QueueEntry[ItemT, AnswerT]] = []
        while self._waiting and not batch:
            request = min(self._waiting, key=lambda one: self._waiting[one].work)
            share = self._waiting[request]
            before = share.lane.count
            batch = share.lane.take(most, now)
            self.count -= before - share.lane.count
            self._served = share.work
            share.work += sum(max(1, entry.bucket) for entry in batch)
            if not share.lane.count:
                del self._waiting[request]
        return batch


class _Share(Generic[ItemT, AnswerT]):
    """The waiting items of one request, and the work that was done for it."""

    __slots__ = ("lane", "work")

    def __init__(self, work: float) -> None:
        self.lane: ArrivalLane[ItemT, AnswerT] = ArrivalLane()
        self.work = work


class Taker(Protocol):
    """A consumer of batches, until it is retired."""

    is_retired: bool


class Batcher(Generic[ItemT, AnswerT]):
    """A bounded queue in front of a tower's workers, each of them a thread.

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
        throttles: Throttles | None = None,
    ) -> None:
        self.capacity = capacity
        self.max_batch = max_batch
        self.name = name
        self.held = 0
        self._window = window
        self._clock = clock or Clock()
        self.throttles = throttles or Throttles()
        self._took: dict[int, Priority] = {}  # of each thread's batch
        self._small: ArrivalLane[ItemT, AnswerT] = ArrivalLane()
        self._lanes: dict[Priority, Lane[ItemT, AnswerT]] = {
            Priority.SMALL: self._small,
            Priority.LARGE: FairLane(),
            Priority.BACKGROUND: ArrivalLane(),
        }
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
    def is_closed(self) -> bool:
        """Whether the batcher has been closed."""
        return self._closed

    @property
    def depth(self) -> int:
        """Items that wait for a worker."""
        return sum(lane.count for lane in self._lanes.values())

    @property
    def backlog_seconds(self) -> float:
        """The seconds that the held items will take at the recent rate."""
        return min(30.0, max(0.05, self.held * self._item_seconds))

    def put(
        self,
        entries: Iterable[QueueEntry[ItemT, AnswerT]],
        priority: Priority = Priority.SMALL,
    ) -> None:
        """Queue entries in the lane of their priority."""
        now = self._clock.now()
        lane = self._lanes[priority]
        with self._changed:
            for entry in entries:
                self._order += 1
                entry.order = self._order
                entry.ticket.queued = min(entry.ticket.queued, now)
                lane.put(entry, now)
            self._changed.notify()

    def take(self, taker: Taker | None = None) -> list[QueueEntry[ItemT, AnswerT]]:
        """Return the next batch, waiting for one; empty when closed or the taker is retired."""
        with self._changed:
            while not self._closed and not (taker is not None and taker.is_retired):
                now = self._clock.now()
                priority = self._find_first()
                pause = None if priority is None else self._pause(priority, now)
                if priority is None or pause is None or pause > SHORTEST_WAIT:
                    self._clock.wait(self._changed, pause)
                    continue
                self._took[threading.get_ident()] = priority
                if priority is Priority.SMALL:
                    batch = self._small.take(self.max_batch, now)
                else:
                    batch = self._take_behind(priority, now)
                if batch:
                    if self.depth:  # for another worker
                        self._changed.notify()
                    return batch
        return []

    def _take_behind(self, priority: Priority, now: float) -> list[QueueEntry[ItemT, AnswerT]]:
        """Return a batch of large requests or background work."""
        most = self.throttles.begin(priority, self.max_batch, now, self._item_seconds)
        batch = self._lanes[priority].take(most, now)
        if not batch:  # nobody waits for any of its items
            self.throttles.end(priority, now, 0.0)
        return batch

    def _find_first(self) -> Priority | None:
        """Return the first priority that has waiting items."""
        return next((priority for priority, lane in self._lanes.items() if lane.count), None)

    def _pause(self, priority: Priority, now: float) -> float:
        """Return the seconds to wait before taking a batch of this priority."""
        if priority is Priority.SMALL:
            if self._window is None:
                return 0.0
            waited = now - self._small.oldest()[0][0]
            return self._window.delay(self._small.count, waited)
        return min(CHECK_SECONDS, self.throttles.delay(priority, now))

    def observe(self, items: int, seconds: float) -> None:
        """Record a batch's time, for the window, Retry-After and the throttles."""
        took = self._took.pop(threading.get_ident(), Priority.SMALL)
        if took is not Priority.SMALL:
            self.throttles.end(took, self._clock.now(), seconds)
        if self._window is not None:
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
