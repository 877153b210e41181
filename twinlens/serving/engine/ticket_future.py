"""Lets a coroutine wait for a ticket that worker threads fill."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from twinlens.serving.call import Call
from twinlens.serving.engine.ticket import Ticket
from twinlens.serving.failures import ClientGoneError, DeadlineError

# Requests that are answered sooner start no task that watches for a disconnect.
_WATCH_AFTER = 0.05


class TicketFuture:
    """A future of the event loop that resolves when worker threads have filled a ticket."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()

    def notify(self) -> None:
        """Signal, from any thread, that the ticket is full."""
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
    await asyncio.wait({done}, timeout=min(_WATCH_AFTER, call.remaining))
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
