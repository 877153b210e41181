"""Micro-batches of one tower: a queue with a lane for each priority, emptied by one worker.

Knows no model and no HTTP; time comes from a clock that is passed in. What must stay true: items of
small requests go first, and those behind them have a share of the time that they never lose.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Generic

from twinlens.errors import OverloadedError
from twinlens.serving.call import Priority
from twinlens.serving.clock import Clock
from twinlens.serving.engine.lanes import ArrivalLane, FairLane, Lane
from twinlens.serving.engine.throttle import CHECK_SECONDS, SHORTEST_WAIT, Throttles
from twinlens.serving.engine.ticket import AnswerT, ItemT, QueueEntry
from twinlens.serving.engine.window import NoWindow, Window


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
        throttles: Throttles | None = None,
    ) -> None:
        self.capacity = capacity
        self.max_batch = max_batch
        self.name = name
        self.held = 0
        self._window = window or NoWindow()
        self._clock = clock or Clock()
        self.throttles = throttles or Throttles()
        self._took = Priority.SMALL  # what the running batch belongs to
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
        """Queue entries; those behind the small ones run in the time that is left for them."""
        now = self._clock.now()
        lane = self._lanes[priority]
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
                priority = self._find_first()
                pause = None if priority is None else self._pause(priority, now)
                if priority is None or pause is None or pause > SHORTEST_WAIT:
                    self._clock.wait(self._changed, pause)
                    continue
                self._took = priority
                most = self.throttles.begin(priority, self.max_batch, now)
                batch = self._lanes[priority].take(most, now)
                if batch:
                    return batch
                self.throttles.end(priority, now, 0.0)  # nothing of it was wanted any more
        return []

    def _find_first(self) -> Priority | None:
        """Return the first priority of which something waits."""
        return next((priority for priority, lane in self._lanes.items() if lane.count), None)

    def _pause(self, priority: Priority, now: float) -> float:
        """Return the seconds to wait before taking a batch of what comes first."""
        if priority is Priority.SMALL:
            waited = now - self._small.oldest()[0][0]
            return self._window.delay(self._small.count, waited)
        return min(CHECK_SECONDS, self.throttles.delay(priority, now))

    def observe(self, items: int, seconds: float) -> None:
        """Record a batch's time, for the window, Retry-After and the throttles."""
        self.throttles.end(self._took, self._clock.now(), seconds)
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
