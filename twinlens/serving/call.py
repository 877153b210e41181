"""One request on its way through the stages: how long it may take, and where its time went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from twinlens.errors import TooLargeError
from twinlens.serving.admission.reservations import Reservation
from twinlens.serving.clock import Clock
from twinlens.serving.engine.batcher import Ticket
from twinlens.serving.failures import ClientGoneError, DeadlineError

# A request that is answered sooner never pays for a task that watches its client.
_WATCH_AFTER = 0.05

STAGES = ("receive", "fetch", "decode", "queue", "encode", "score", "answer")


@dataclass(slots=True)
class Call:
    """What a request carries besides its input."""

    clock: Clock
    deadline: float
    pixels_left: int
    wait_gone: Callable[[], Awaitable[None]] | None = None  # returns when the client has left
    place: Reservation | None = None  # what it was let in with
    is_background: bool = False
    failed_items: int = 0
    body_bytes: int = 0  # held for this request
    refused_at: tuple[str, str] = ("", "other")  # where it found no room: model and queue
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Count time to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def spend_pixels(self, pixels: int) -> None:
        """Count decoded pixels against the request's allowance."""
        self.pixels_left -= pixels
        if self.pixels_left < 0:
            raise TooLargeError("the images of this request have too many pixels together")

    def settle(self) -> None:
        """Say that a queue was asked for the places that this call needs."""
        if self.place is not None:
            self.place.settle()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, never below zero."""
        return max(0.0, self.deadline - self.clock.now())

    def server_timing(self) -> str:
        """Return the stages in milliseconds, in the form of the Server-Timing header."""
        return ", ".join(f"{name};dur={s * 1000:.2f}" for name, s in self.seconds.items())


class TicketFuture:
    """Lets a coroutine wait for a ticket that other threads fill."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()

    def notify(self) -> None:
        """Say from any thread that the ticket is full."""
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is left to be told
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def wait(self, ticket: Ticket[Any], call: Call) -> None:
        """Return when the ticket is full.

        At the deadline, or when the client leaves, abandon it and raise.
        """
        try:
            await asyncio.wait({self._done}, timeout=min(_WATCH_AFTER, call.remaining))
            if not self._done.done():
                await self._wait_watching(call)
        finally:
            if not self._done.done():
                ticket.abandon()
        if not self._done.done():
            raise DeadlineError("the request's time is over before its answer was ready")

    async def _wait_watching(self, call: Call) -> None:
        """Wait on, but end early if the client goes away."""
        if call.wait_gone is None:
            await asyncio.wait({self._done}, timeout=call.remaining)
            return
        gone = asyncio.ensure_future(call.wait_gone())
        try:
            await asyncio.wait(
                {self._done, gone}, timeout=call.remaining, return_when=asyncio.FIRST_COMPLETED
            )
            if gone.done() and not self._done.done():
                raise ClientGoneError("the client closed the connection")
        finally:
            gone.cancel()
