"""Classifiers and collections in all processes: the head writes, the HTTP processes follow.

What must stay true: the head acknowledges a change only when every HTTP process answers by it, and
an HTTP process writes nothing to the data folder.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.workers.control import Control
from twinlens.serving.workers.family import HEAD, HTTP
from twinlens.serving.zeroshot.classifiers import Classifier, ClassifierStore, pack, unpack

CAPTIONS, REBUILD = "captions", "rebuild"
GetControl = Callable[[], Control]


class LeadingClassifiers(ClassifierStore):
    """The head's classifiers; every HTTP process is told of a change."""

    def __init__(self, folder: Path, control: GetControl) -> None:
        super().__init__(folder)
        self._control = control
        self._one_by_one = threading.Lock()

    def put(self, classifier: Classifier) -> bool:
        """Store a classifier, which every HTTP process then reads; not on the event loop."""
        with self._one_by_one:
            was_there = super().put(classifier)
            self._announce([classifier])
        return was_there

    def remove(self, name: str) -> None:
        """Delete a classifier in every process; not on the event loop."""
        with self._one_by_one:
            found = [one for one in self.find(name) if not one.bundled]
            super().remove(name)
            self._announce(found)

    async def adopt(self, body: Any) -> None:
        """Store a classifier that an HTTP process has made, unless there is one."""
        path = Path(body["path"])
        made = unpack(await asyncio.to_thread(path.read_bytes))
        path.unlink()
        if (made.name, made.revision) not in {(c.name, c.revision) for c in self.all()}:
            await asyncio.to_thread(self.put, made)

    def _announce(self, classifiers: Sequence[Classifier]) -> None:
        body = [[one.name, one.revision] for one in classifiers]
        self._control().ask_from_thread(HTTP, "classifier", body)


class FollowingClassifiers(ClassifierStore):
    """The classifiers of an HTTP process, read from the folder that the head writes."""

    def __init__(self, folder: Path, exchange: Path, control: GetControl) -> None:
        super().__init__(folder)
        self._exchange = exchange
        self._control = control
        self._tasks: set[asyncio.Task[list[Any]]] = set()

    def put(self, classifier: Classifier) -> bool:
        """Use a classifier that was made here, and hand it to the head; on the event loop."""
        key = (classifier.name, classifier.revision)
        was_there = key in self._classifiers
        self._classifiers[key] = classifier
        path = self._exchange / f"{secrets.token_hex(8)}.npz"
        path.write_bytes(pack(classifier))
        asking = self._control().ask(HEAD, "adopt", {"path": str(path)})
        task = asyncio.get_running_loop().create_task(asking)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return was_there

    async def follow(self, body: Any) -> None:
        """Read the changed classifiers again."""
        for name, revision in body:
            await asyncio.to_thread(self._read_again, name, revision)

    def _read_again(self, name: str, revision: str) -> None:
        path = self._path(name, revision)
        if path.is_file():
            self._read(path)
        else:
            self._classifiers.pop((name, revision), None)


class LeadingStore(CollectionStore):
    """The head's collections; every HTTP process is told of a created or removed one."""

    def __init__(self, folder: Path | None, control: GetControl) -> None:
        super().__init__(folder)
        self._control = control

    def create(
        self, name: str, *, dim: int, bundle: str, revision: str, source: str
    ) -> ServedCollection:
        """Create a collection, which every HTTP process then opens; not on the event loop."""
        made = super().create(name, dim=dim, bundle=bundle, revision=revision, source=source)
        self._announce(name, made.folder)
        return made

    def remove(self, name: str) -> None:
        """Delete a collection once every HTTP process has closed it; not on the event loop."""
        self.find(name)
        self._announce(name, None)
        super().remove(name)

    async def maintain(self, body: Any) -> list[str]:
        """Index captions or rebuild indexes for an HTTP process, which may not write."""
        served = self.find(body["name"])
        if body["what"] == REBUILD:
            return list(await asyncio.to_thread(served.rebuild))
        await asyncio.to_thread(served.index_captions)
        return []

    def _announce(self, name: str, folder: Path | None) -> None:
        body = {"name": name, "folder": None if folder is None else str(folder)}
        self._control().ask_from_thread(HTTP, "collection", body)


class FollowingStore(CollectionStore):
    """An HTTP process's collections, which it only reads."""

    def __init__(self, folder: Path | None, named: Mapping[str, Path], control: GetControl) -> None:
        self._control = control
        super().__init__(folder)
        for name, path in named.items():
            self.add(name, path)

    def open(self, name: str, source: Path | str) -> ServedCollection:
        """Return the collection in the folder `source`, opened to be read."""
        return FollowingCollection(
            name, Path(source), self.pool, self.maintenance_pool, self._control
        )

    async def follow(self, body: Any) -> None:
        """Open or close a collection that the head has created or removes."""
        await asyncio.to_thread(self._follow, body["name"], body["folder"])

    def _follow(self, name: str, folder: str | None) -> None:
        known = name in self._collections
        if folder is not None and not known:
            self.add(name, Path(folder))
        elif folder is None and known:
            self._collections.pop(name).close()


class FollowingCollection(ServedCollection):
    """A collection that another process writes."""

    def __init__(
        self, name: str, folder: Path, pool: Any, maintenance_pool: Any, control: GetControl
    ) -> None:
        super().__init__(name, folder, pool, maintenance_pool)
        self._control = control

    def index_captions(self) -> None:
        """Ask the head to index the captions."""
        self._ask(CAPTIONS)

    def rebuild(self) -> Sequence[str]:
        """Ask the head to rebuild damaged indexes."""
        return self._ask(REBUILD)

    def _ask(self, what: str) -> list[str]:
        body = {"name": self.name, "what": what}
        (names,) = self._control().ask_from_thread(HEAD, "maintain", body)
        self.collection.refresh()
        return list(names)
