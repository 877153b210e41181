"""The collections of a server: those given by folder, and those created in its data folder.

Requests come from many threads. What must stay true: one thread at a time creates or removes a
name, the others get 404 or 409, and no error names a folder.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.index.writer import create_collection
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.files import report_full_disk

log = logging.getLogger("twinlens.serving")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CollectionStore:
    """All collections: those given by folder, and those created in the server's data folder."""

    def __init__(self, folder: Path | None = None, threads: int = 4) -> None:
        self._folder = folder
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        # Separate, so that no search waits behind a build; daemon threads might die mid-commit.
        self.maintenance_pool = ThreadPoolExecutor(1, thread_name_prefix="maintenance")
        self._collections: dict[str, ServedCollection] = {}
        self._changing: set[str] = set()  # names being created or removed
        self._lock = threading.Lock()
        if folder is not None and folder.is_dir():
            for path in sorted(folder.iterdir()):
                if _NAME.fullmatch(path.name) and (path / "catalog.sqlite").exists():
                    self.add(path.name, path)

    def add(self, name: str, source: Path | str) -> ServedCollection:
        """Serve the collection in a folder, or at the address of a store, as `name`."""
        _check_name(name)
        if name in self._collections:
            raise InputError(f"two collections are called {name!r}", field="collection")
        self._collections[name] = self.open(name, source)
        return self._collections[name]

    def open(self, name: str, source: Path | str) -> ServedCollection:
        """Return the collection in a folder, or at the address of a store, opened."""
        cache = self._folder.parent if self._folder else None
        return ServedCollection(name, source, self.pool, self.maintenance_pool, cache)

    def all(self) -> list[ServedCollection]:
        """Return every collection, by name."""
        return [served for _, served in sorted(self._collections.items())]

    def find(self, name: str | None) -> ServedCollection:
        """Return one collection; without a name, the only one."""
        known = dict(self._collections)
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        names = ", ".join(sorted(known)) or "none"
        if name is None:
            raise InputError(
                f"name a collection; known collections are: {names}", field="collection"
            )
        if name not in known:
            raise NotFoundError(
                f"there is no collection {name[:64]!r}; known collections are: {names}",
                field="collection",
                code="collection_not_found",
            )
        return known[name]

    def create(
        self, name: str, *, dim: int, bundle: str, revision: str, source: str
    ) -> ServedCollection:
        """Create an empty collection in the server's data folder."""
        _check_name(name)
        if self._folder is None:
            raise InputError(
                "this server has no data folder; start it with --data DIR to create collections"
            )
        with self._change(name):
            if name in self._collections:
                raise ConflictError(f"collection {name!r} exists already", field="name")
            try:
                with report_full_disk():
                    create_collection(
                        self._folder / name,
                        dim=dim,
                        bundle_name=bundle,
                        bundle_revision=revision,
                        bundle_source=source,
                    )
                    return self.add(name, self._folder / name)
            except InputError as error:  # another folder has that name
                log.error("cannot create collection %s: %s", name, error.message)
                raise ConflictError(
                    f"collection {name!r} cannot be created here; the server's log says why",
                    field="name",
                ) from None

    def remove(self, name: str) -> None:
        """Delete a collection that was created here; one given by folder is only closed."""
        with self._change(name):
            served = self.find(name)
            del self._collections[name]
            served.close()
            if self._folder is not None and served.folder.parent == self._folder:
                shutil.rmtree(served.folder)

    @contextmanager
    def _change(self, name: str) -> Iterator[None]:
        """Reserve a name while it is created or removed."""
        with self._lock:
            if name in self._changing:
                raise ConflictError(
                    f"collection {name[:64]!r} is being created or removed; try again",
                    field="name",
                )
            self._changing.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._changing.discard(name)

    def close(self) -> None:
        """Close all collections and their threads."""
        for served in self._collections.values():
            served.close()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.maintenance_pool.shutdown(wait=True, cancel_futures=True)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"collection name {name[:70]!r} is not usable; use letters, digits, . _ - (64 at most)",
            field="name",
        )
