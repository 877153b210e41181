"""The answers of one request, its items in a queue, and how a coroutine waits for them.

What must stay true: every queued item is answered exactly once, and an item that no client waits
for is never run.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from twinlens.serving.call import Call
from twinlens.serving.failures import ClientGoneError, DeadlineError

# Requests that are answered sooner start no task that watches for a disconnect.
_WATCH_AFTER = 0.05

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


class TicketFuture:
    """A future of the event loop that resolves when worker threads have filled a ticket."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.get_ident()

    def notify(self) -> None:
        """Signal, from any thread, that the ticket is full."""
        if threading.get_ident() == self._thread:
            self._finish()
            return
        with suppress(RuntimeError):  # the loop was closed: nothing waits any more
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def wait(self, ticket: Ticket[Any], call: Call) -> None:
        """Return when the ticket is full.

        At the deadline, or when the client disconnects, abandon it and raise.
        """
        try:
            await wait_for(self._done, call)
        finally:
            if not self._done.done():
                ticket.abandon()


async def wait_for(done: asyncio.Future[None], call: Call) -> None:
    """Return when a future is done; raise at the deadline, or when the client disconnects."""
    left = call.deadline - call.clock.now()
    await asyncio.wait({done}, timeout=min(_WATCH_AFTER, max(0.0, left)))
    if not done.done():
        await _wait_watching(done, call)
    if not done.done():
        raise DeadlineError("the request's deadline passed before its answer was ready")


async def _wait_watching(done: asyncio.Future[None], call: Call) -> None:
    """Keep waiting, but raise as soon as the client disconnects."""
    if call.wait_gone is None:
        await asyncio.wait({done}, timeout=call.remaining)
        return
    disconnected = asyncio.ensure_future(call.wait_gone())
    try:
        await asyncio.wait(
            {done, disconnected},
            timeout=call.remaining,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if disconnected.done() and not done.done():
            raise ClientGoneError("the client closed the connection")
    finally:
        disconnected.cancel()
