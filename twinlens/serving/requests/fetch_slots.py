"""Limits simultaneous fetches: in all, for each client and for each host.

What must stay true: a fetch that waits holds nothing that others wait for, and no client and no
host holds every slot.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Key = tuple[str, str]  # client, host


class FetchSlots:
    """Fetches under way, counted by client and by host."""

    def __init__(self, most: int, per_client: int, per_host: int) -> None:
        self._most = most
        self._per_client = per_client
        self._per_host = per_host
        self._all = 0
        self._clients: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self._waiting: dict[_Key, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def take(self, client: str, host: str) -> AsyncIterator[None]:
        """Hold a slot while the block runs; wait for one first if necessary."""
        key = (client, host)
        if key in self._waiting or not self._fits(key):
            await self._wait(key)
        else:
            self._count(key, 1)
        try:
            yield
        finally:
            self._release(key)

    async def _wait(self, key: _Key) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(key)  # its turn came while it was being cancelled
            else:
                self._leave(key, turn)
            raise

    def _leave(self, key: _Key, turn: asyncio.Future[None]) -> None:
        self._waiting[key].remove(turn)
        if not self._waiting[key]:
            del self._waiting[key]

    def _fits(self, key: _Key) -> bool:
        client, host = key
        return (
            self._all < self._most
            and self._clients[client] < self._per_client
            and self._hosts[host] < self._per_host
        )

    def _count(self, key: _Key, change: int) -> None:
        client, host = key
        self._all += change
        for counter, name in ((self._clients, client), (self._hosts, host)):
            counter[name] += change
            if not counter[name]:
                del counter[name]

    def _release(self, key: _Key) -> None:
        """Free a slot for the first waiting pairs that fit; a served pair moves to the end."""
        self._count(key, -1)
        for other in list(self._waiting):
            if not self._fits(other):
                continue
            turns = self._waiting.pop(other)
            turns.popleft().set_result(None)
            self._count(other, 1)
            if turns:
                self._waiting[other] = turns
