"""Limits large requests to half of the places in a tower's queue, so that small ones find room.

A large request takes places for a part of its items at a time, and waits for them. Waiting requests
are ordered by arrival time plus cost in seconds: a cheaper one passes a costlier one that has not
waited longer than the difference. Only the event loop's thread uses it. What must stay true: no
request waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar

from twinlens.serving.call import Call
from twinlens.serving.engine.batcher import Batcher
from twinlens.serving.engine.ticket import wait_for

_SHARE = 2  # all large requests together hold at most half of the places
_PARTS = 8  # one large request holds at most an eighth of them at a time

T = TypeVar("T")


class LargeShare:
    """The places that large requests hold in a queue, and the requests that wait for places."""

    def __init__(self, batcher: Batcher[Any, Any]) -> None:
        self._batcher = batcher
        self._most = max(1, batcher.capacity // _SHARE)
        self._held = 0
        self.waiting: list[tuple[float, int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def split(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Return a large request in parts, which hold places one after the other."""
        whole = self._batcher.max_batch  # full batches, as far as the queue has room for them
        part = self._batcher.capacity // _PARTS
        part = max(1, part // whole * whole or part)
        return (items[start : start + part] for start in range(0, len(items), part))

    @asynccontextmanager
    async def hold(self, items: int, call: Call) -> AsyncIterator[None]:
        """Hold places for one part of a request, once it is its turn."""
        await self._acquire(items, call)
        try:
            yield
        finally:
            self._held -= items
            self._batcher.release(items)
            self.wake()

    def wake(self) -> None:
        """Give free places to those that wait, in their order."""
        while self.waiting:
            first = min(self.waiting)
            items, future = first[2:]
            if not future.done():
                if not self._fits(items):
                    return
                self._take(items)
                future.set_result(None)
            self.waiting.remove(first)

    async def _acquire(self, items: int, call: Call) -> None:
        if not self.waiting and self._fits(items):
            self._take(items)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((call.rank, next(self._numbers), items, future))
        self.wake()
        try:
            await wait_for(future, call)
        except BaseException:
            if future.done() and not future.cancelled():  # it got its places too late
                self._held -= items
                self._batcher.release(items)
            future.cancel()
            self.wake()
            raise

    def _fits(self, items: int) -> bool:
        has_share = self._held + items <= self._most or not self._held
        return has_share and items <= self._batcher.room

    def _take(self, items: int) -> None:
        self._batcher.hold(items)
        self._held += items
