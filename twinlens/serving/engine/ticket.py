"""The answers of one request, and its items in a queue.

What must stay true: every queued item is answered exactly once, and an item that no client waits
for is never run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from twinlens.serving.failures import DeadlineError

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

    __slots__ = ("bucket", "index", "item", "order", "request", "ticket")

    def __init__(
        self, ticket: Ticket[AnswerT], index: int, item: ItemT, bucket: int = 0, request: int = 0
    ) -> None:
        self.ticket = ticket
        self.index = index
        self.item = item
        self.bucket = bucket
        self.order = 0
        self.request = request  # number of the request, for fair turns

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
