"""Closes connections whose client keeps the server waiting.

One timer checks all connections, because a timer for each request would cost more than reading most
requests. What must stay true: a connection without traffic does not stay open.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_LOOK_SECONDS = 0.5


class Timed(Protocol):
    """A connection that knows how long it has waited."""

    def end_if_late(self, now: float) -> None:
        """Close the connection if the client is late."""
        ...


class ConnectionTimeouts:
    """Every open connection of a server."""

    def __init__(self) -> None:
        self._open: set[Timed] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Timed, loop: asyncio.AbstractEventLoop) -> None:
        """Start checking a connection."""
        self._open.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_SECONDS, self._look, loop)

    def remove(self, connection: Timed) -> None:
        """Stop checking a connection."""
        self._open.discard(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.end_if_late(now)
        self._timer = loop.call_later(_LOOK_SECONDS, self._look, loop) if self._open else None
