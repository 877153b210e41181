"""The collections of a server: those given by folder, and those created in its data folder."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.index.writer import create_collection
from twinlens.serving.collections.served import ServedCollection

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CollectionStore:
    """All collections: those given by folder, and those created in the server's data folder."""

    def __init__(self, folder: Path | None = None, threads: int = 4) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        # Separate, so that no search waits behind a build; daemon threads might die mid-commit.
        self._maintenance_pool = ThreadPoolExecutor(1, thread_name_prefix="maintenance")
        self._collections: dict[str, ServedCollection] = {}
        if folder is not None and folder.is_dir():
            for path in sorted(folder.iterdir()):
                if _NAME.fullmatch(path.name) and (path / "catalog.sqlite").exists():
                    self.add(path.name, path)

    def add(self, name: str, folder: Path) -> ServedCollection:
        """Serve the collection at `folder` as `name`."""
        _check_name(name)
        if name in self._collections:
            raise InputError(f"two collections are called {name!r}", field="collection")
        self._collections[name] = ServedCollection(name, folder, self._pool, self._maintenance_pool)
        return self._collections[name]

    def all(self) -> list[ServedCollection]:
        """Return every collection, by name."""
        return [self._collections[name] for name in sorted(self._collections)]

    def find(self, name: str | None) -> ServedCollection:
        """Return one collection; without a name, the only one."""
        if name is None and len(self._collections) == 1:
            return next(iter(self._collections.values()))
        if name is None:
            raise InputError(
                f"name a collection; known collections are:"
                f" {', '.join(sorted(self._collections)) or 'none'}",
                field="collection",
            )
        if name not in self._collections:
            raise NotFoundError(
                f"there is no collection {name[:64]!r}; known collections are:"
                f" {', '.join(sorted(self._collections)) or 'none'}",
                field="collection",
                code="collection_not_found",
            )
        return self._collections[name]

    def create(
        self, name: str, *, dim: int, bundle: str, revision: str, source: str
    ) -> ServedCollection:
        """Create an empty collection in the server's data folder."""
        _check_name(name)
        if name in self._collections:
            raise ConflictError(f"collection {name!r} exists already", field="name")
        if self._folder is None:
            raise InputError(
                "this server has no data folder; start it with --data DIR to create collections"
            )
        create_collection(
            self._folder / name,
            dim=dim,
            bundle_name=bundle,
            bundle_revision=revision,
            bundle_source=source,
        )
        return self.add(name, self._folder / name)

    def remove(self, name: str) -> None:
        """Delete a collection that was created here; one given by folder is only closed."""
        served = self.find(name)
        del self._collections[name]
        served.close()
        if self._folder is not None and served.folder.parent == self._folder:
            shutil.rmtree(served.folder)

    def close(self) -> None:
        """Close all collections and their threads."""
        for served in self._collections.values():
            served.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._maintenance_pool.shutdown(wait=True, cancel_futures=True)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"collection name {name[:70]!r} is not usable; use letters, digits, . _ - (64 at most)",
            field="name",
        )
