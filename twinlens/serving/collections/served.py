"""One collection in a server: searched in batches, with one writer at a time.

Searches that wait while one runs are answered together by one pass over the rows.
What must stay true: nothing is closed while in use, and no error names a folder.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from twinlens.errors import (
    CollectionError,
    LockedError,
    NotFoundError,
    OverloadedError,
    ReadOnlyError,
    StoreError,
    TwinlensError,
)
from twinlens.index.collection import Collection
from twinlens.index.gallery.thumbnails import (
    PREVIEW_BYTES,
    PREVIEW_SIDE,
    PREVIEWS_NAME,
    ThumbnailStore,
)
from twinlens.index.maintenance import repair
from twinlens.index.searching.request import SearchAnswer
from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.caption_build import is_complete
from twinlens.index.stores.opening import open_collection
from twinlens.index.stores.store import refuse
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.writer import Writer
from twinlens.serving.collections.maps import MapCache
from twinlens.serving.collections.search import SearchParams, run_search
from twinlens.serving.collections.shared_writer import SharedWriter
from twinlens.serving.failures import UnavailableError
from twinlens.serving.files import report_full_disk

MOST_WAITING = 1024
MOST_TOGETHER = 64

ResultT = TypeVar("ResultT")
log = logging.getLogger("twinlens.serving")


@dataclass
class RunTotals:
    """How often something ran, and its total seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one run."""
        self.count += 1
        self.seconds += seconds


class ServedCollection:
    """One collection in a server."""

    def __init__(
        self,
        name: str,
        source: Path | str,
        pool: ThreadPoolExecutor,
        maintenance_pool: ThreadPoolExecutor,
        cache: Path | None = None,
    ) -> None:
        self.name = name
        self.collection = open_collection(source, cache=cache)
        self.folder = self.collection.folder
        self.thumbnails = ThumbnailStore(self.folder)
        self._previews: ThumbnailStore | None = None
        self.map_cache = MapCache()
        self.maps = RunTotals()
        self._pool = pool
        self._maintenance_pool = maintenance_pool
        self._waiting: list[
            tuple[SearchParams, NDArray[np.float32], asyncio.Future[SearchAnswer]]
        ] = []
        self._running: asyncio.Task[None] | None = None
        self._users = 0  # reads and writes in progress
        self._left = threading.Condition()  # notified when a user leaves
        self.writer = SharedWriter(source, self.collection.refresh)
        self._is_repairing = False
        self.is_closing = False  # tells maintenance to stop
        self.maintained_rows = 0  # rows that the last maintenance left without an index

    async def search(self, row: NDArray[np.float32], params: SearchParams) -> SearchAnswer:
        """Search as part of the next batch."""
        if len(self._waiting) >= MOST_WAITING:
            raise OverloadedError(f"{MOST_WAITING} searches of {self.name!r} are waiting already")
        future: asyncio.Future[SearchAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append((params, row, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    async def read(self, action: Callable[[Collection], ResultT]) -> ResultT:
        """Run `action` on the collection in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._guard, lambda: action(self.collection))

    async def write(self, action: Callable[[Writer], ResultT]) -> ResultT:
        """Run `action` as the collection's writer, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._pool, self._guard, lambda: self.writer.write(action)
        )

    async def maintain(self, action: Callable[[Writer], ResultT]) -> ResultT:
        """Run a long `action` as the collection's writer; other writes continue meanwhile."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._maintenance_pool, self._guard, lambda: self.writer.maintain(action)
        )

    async def examine(self, action: Callable[[Collection], ResultT]) -> ResultT:
        """Run a long `action` that only reads; no search and no write waits for it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._maintenance_pool, self._guard, lambda: action(self.collection)
        )

    def snapshot(self) -> Snapshot:
        """Return the newest state that is ready to be searched."""
        with self._use():
            return self.collection.snapshot()

    def require_folder(self) -> None:
        """Refuse what only a collection in a folder can do."""
        if isinstance(self.collection, StoreCollection):
            refuse(f"collection {self.name!r}", self.collection.store.label)

    def open_previews(self, is_writing: bool = False) -> ThumbnailStore | None:
        """Return the store of pictures that clients asked to keep; None if there are none."""
        with self._left:
            if self._previews is None and (is_writing or (self.folder / PREVIEWS_NAME).exists()):
                self._previews = ThumbnailStore(
                    self.folder, PREVIEW_BYTES, name=PREVIEWS_NAME, side=PREVIEW_SIDE
                )
            return self._previews

    def close(self) -> None:
        """Close the collection once nobody uses it; maintenance ends at its next stage."""
        with self._left:
            self.is_closing = True
            self._left.wait_for(lambda: not self._users)
        self.writer.close()
        self.collection.close()
        self.thumbnails.close()
        if self._previews is not None:
            self._previews.close()

    async def _run(self) -> None:
        """Answer all waiting searches, batch by batch."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            params = self._waiting[0][0]
            batch = [one for one in self._waiting if one[0] == params][:MOST_TOGETHER]
            picked = set(map(id, batch))
            self._waiting = [one for one in self._waiting if id(one) not in picked]
            batch = [one for one in batch if not one[2].done()]  # drop those of clients that left
            if not batch:
                continue
            rows = np.stack([row for _, row, _ in batch])
            try:
                found = await loop.run_in_executor(
                    self._pool,
                    self._guard,
                    lambda params=params, rows=rows: self._search(params, rows),
                )
            except Exception as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), answer in zip(batch, found, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _search(self, params: SearchParams, rows: NDArray[np.float32]) -> list[SearchAnswer]:
        try:
            if params.words is not None and not is_complete(self.collection.catalog):
                self.index_captions()
            return run_search(self.collection, params, rows)
        finally:
            if not self._is_repairing and self.collection.snapshot().damaged:
                self._is_repairing = True
                self._maintenance_pool.submit(self._repair)

    def _repair(self) -> None:
        """Rebuild damaged indexes; their segments are searched exactly meanwhile."""
        try:
            names = self.rebuild()
            log.warning("rebuilt %s of collection %s", ", ".join(names), self.name)
        except TwinlensError as error:
            log.error("cannot rebuild the index of collection %s: %s", self.name, error.message)
            return  # no retry: another process writes, or the disk is faulty
        self._is_repairing = False

    def index_captions(self) -> None:
        """Make captions searchable by their words, as this collection's writer."""
        self.writer.maintain(lambda writer: writer.index_captions())

    def rebuild(self) -> Sequence[str]:
        """Rebuild damaged indexes, as this collection's writer; return their segments' names."""
        return self.writer.maintain(repair)

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Keep the collection open while the block runs."""
        with self._left:
            if self.is_closing:
                gone = f"there is no collection {self.name!r} any more"
                raise NotFoundError(gone, field="collection", code="collection_not_found")
            self._users += 1
        try:
            yield
        finally:
            with self._left:
                self._users -= 1
                self._left.notify_all()

    def _guard(self, action: Callable[[], ResultT]) -> ResultT:
        """Run `action`; errors that reach clients name no folder or file of the server."""
        try:
            with self._use(), report_full_disk():
                return action()
        except LockedError:
            raise LockedError(
                f"collection {self.name!r} is being written to by another process; try again",
                field="collection",
            ) from None
        except ReadOnlyError:
            raise ReadOnlyError(
                f"collection {self.name!r} lies in a folder that the server may not write to",
                field="collection",
            ) from None
        except StoreError as error:
            log.error("collection %s: %s", self.name, error.message)
            raise UnavailableError(
                f"the store of collection {self.name!r} does not answer; try again"
            ) from None
        except CollectionError as error:
            raise UnavailableError(
                f"collection {self.name!r} is damaged; `twinlens index verify` shows where"
            ) from error
        except NotFoundError as error:
            if error.field == "collection":
                raise
            raise NotFoundError(f"collection {self.name!r} has no such item", field="id") from None
        except TwinlensError as error:
            for place in (self.collection.place, str(self.folder)):
                error.message = error.message.replace(place, f"collection {self.name!r}")
            raise
