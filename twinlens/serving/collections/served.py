"""One collection in a server: searched in batches, written to by one at a time.

Searches that wait while one runs are answered together by one pass over the rows. The writer's lock
is held only while writes come in, so that a build on the command line may follow.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinlens.errors import (
    CollectionError,
    LockedError,
    NotFoundError,
    OverloadedError,
    TwinlensError,
)
from twinlens.index.collection import Collection, Hit
from twinlens.index.gallery.thumbnails import ThumbnailStore
from twinlens.index.maintenance import repair
from twinlens.index.writer import Writer
from twinlens.serving.failures import UnavailableError

MOST_WAITING = 1024
MOST_TOGETHER = 64
WRITER_IDLE_SECONDS = 2.0

ResultT = TypeVar("ResultT")
log = logging.getLogger("twinlens.serving")


@dataclass(frozen=True)
class SearchParams:
    """What a search asks for besides its embedding; equal asks share a batch."""

    k: int = 10
    filter: str | None = None
    threshold: float | None = None
    group: float | None = None
    exact: bool = False


@dataclass
class Spent:
    """How often something was done, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self.seconds += seconds


class ServedCollection:
    """One collection in a server."""

    def __init__(
        self, name: str, folder: Path, pool: ThreadPoolExecutor, upkeep: ThreadPoolExecutor
    ) -> None:
        self.name = name
        self.folder = folder
        self.collection = Collection(folder)
        self.thumbnails = ThumbnailStore(folder)
        self.map_cache: tuple[tuple[int, int], Any] | None = None
        self.maps = Spent()
        self._pool = pool
        self._upkeep = upkeep
        self._waiting: list[
            tuple[SearchParams, NDArray[np.float32], asyncio.Future[list[Hit]]]
        ] = []
        self._running: asyncio.Task[None] | None = None
        self._writing = threading.Lock()
        self._writer: Writer | None = None
        self._tending = 0  # long work that holds the writer too
        self._idle: threading.Timer | None = None
        self._is_mending = False
        self.is_closing = False  # what tends it should stop
        self.maintained_rows = 0  # rows that the last upkeep left without an index

    async def search(self, row: NDArray[np.float32], ask: SearchParams) -> list[Hit]:
        """Search as part of the next batch."""
        if len(self._waiting) >= MOST_WAITING:
            raise OverloadedError(f"{MOST_WAITING} searches of {self.name!r} are waiting already")
        future: asyncio.Future[list[Hit]] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, row, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    async def read(self, action: Callable[[Collection], ResultT]) -> ResultT:
        """Run something on the collection in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._guard, lambda: action(self.collection))

    async def write(self, action: Callable[[Writer], ResultT]) -> ResultT:
        """Run something as the collection's writer, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._guard, lambda: self._write(action))

    async def maintain(self, action: Callable[[Writer], ResultT]) -> ResultT:
        """Run something long as the collection's writer: other writes go on beside it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._upkeep, self._guard, lambda: self._tend(action))

    def close(self) -> None:
        """Let go of the folder; long work in it ends at its next stage."""
        self.is_closing = True
        while self._tending:
            time.sleep(0.02)
        with self._writing:
            self._drop_writer()
        self.collection.close()
        self.thumbnails.close()

    async def _run(self) -> None:
        """Answer all that waits, batch by batch."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            ask = self._waiting[0][0]
            taken = [one for one in self._waiting if one[0] == ask][:MOST_TOGETHER]
            picked = set(map(id, taken))
            self._waiting = [one for one in self._waiting if id(one) not in picked]
            taken = [one for one in taken if not one[2].done()]  # clients that went away
            if not taken:
                continue
            rows = np.stack([row for _, row, _ in taken])
            try:
                found = await loop.run_in_executor(
                    self._pool, self._guard, lambda ask=ask, rows=rows: self._search(ask, rows)
                )
            except Exception as error:
                for _, _, future in taken:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), hits in zip(taken, found, strict=True):
                if not future.done():
                    future.set_result(hits)

    def _search(self, ask: SearchParams, rows: NDArray[np.float32]) -> list[list[Hit]]:
        try:
            return self._search_now(ask, rows)
        finally:
            if not self._is_mending and self.collection.snapshot().damaged:
                self._is_mending = True
                self._upkeep.submit(self._mend)

    def _mend(self) -> None:
        """Rebuild damaged indexes; their segments are searched exactly meanwhile."""
        try:
            names = self._tend(repair)
            log.warning("rebuilt %s of collection %s", ", ".join(names), self.name)
        except TwinlensError as error:
            log.error("cannot rebuild the index of collection %s: %s", self.name, error.message)
            return  # and do not try again: somebody else writes, or the disk is at fault
        self._is_mending = False

    def _search_now(self, ask: SearchParams, rows: NDArray[np.float32]) -> list[list[Hit]]:
        if ask.group is None:
            return self.collection.search(
                rows, ask.k, filter=ask.filter, threshold=ask.threshold, exact=ask.exact
            )
        return [
            self.collection.search_grouped(
                row, ask.k, similarity=ask.group, filter=ask.filter, threshold=ask.threshold
            )
            for row in rows
        ]

    def _write(self, action: Callable[[Writer], ResultT]) -> ResultT:
        with self._writing:
            writer = self._take_writer()
            try:
                return action(writer)
            finally:
                self._leave_writer()

    def _tend(self, action: Callable[[Writer], ResultT]) -> ResultT:
        with self._writing:
            writer = self._take_writer()
            self._tending += 1
        try:
            return action(writer)
        finally:
            with self._writing:
                self._tending -= 1
                self._leave_writer()

    def _take_writer(self) -> Writer:
        if self._idle is not None:
            self._idle.cancel()
        if self._writer is None:
            self._writer = Writer(self.folder)
        return self._writer

    def _leave_writer(self) -> None:
        """Close the writer in a while, unless somebody writes again."""
        self.collection.refresh()
        self._idle = threading.Timer(WRITER_IDLE_SECONDS, self._close_idle)
        self._idle.daemon = True
        self._idle.start()

    def _close_idle(self) -> None:
        with self._writing:
            if not self._tending:
                self._drop_writer()

    def _drop_writer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _guard(self, action: Callable[[], ResultT]) -> ResultT:
        """Run `action`; what it says of folders and files stays inside."""
        try:
            return action()
        except LockedError:
            raise LockedError(
                f"collection {self.name!r} is being written to by another process; try again",
                field="collection",
            ) from None
        except CollectionError as error:
            raise UnavailableError(
                f"collection {self.name!r} is damaged; `twinlens index verify` tells where"
            ) from error
        except NotFoundError:
            raise NotFoundError(f"collection {self.name!r} has no such item", field="id") from None
