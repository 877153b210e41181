"""Queues of one tower's items: in order of arrival, or fair between requests.

Know no model and no time of their own. What must stay true: a batch holds items of one bucket, and
no request in a fair lane is passed for ever.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol

from twinlens.serving.engine.ticket import AnswerT, ItemT, QueueEntry


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
    """Entries by request: the next batch belongs to the request that has had the least work.

    A request begins at the work of the one that is served when it comes, so it neither passes
    those that have waited nor makes up for time in which it asked for nothing.
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
    """What one request has waiting, and the work that it has had."""

    __slots__ = ("lane", "work")

    def __init__(self, work: float) -> None:
        self.lane: ArrivalLane[ItemT, AnswerT] = ArrivalLane()
        self.work = work
