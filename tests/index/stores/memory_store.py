"""A store kept by a dict and numpy: what the default tests run, and the reference."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from twinlens.index.query.filters import Filter, matches, walk_fields
from twinlens.index.storage.records import Head, Item
from twinlens.index.stores.store import Scored, StoreState, VectorStore
from twinlens.index.vectors.arrays import Floats, Rids


class Shelf:
    """What survives of a memory store when it is closed."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.items: dict[str, Item] = {}
        self.rows: dict[int, Floats] = {}
        self.fields: set[str] = set()
        self.notes: dict[str, Any] = {}
        self.next_rid, self.changed, self.has_index = 1, 0, False
        self.lock = threading.RLock()


class MemoryStore(VectorStore):
    """A store in memory; its index forgets the last of ten items unless it is asked thoroughly."""

    label = "memory"
    efforts = (1, 10)

    def __init__(self, shelf: Shelf) -> None:
        super().__init__("memory://here")
        self.shelf = shelf

    def read_state(self) -> StoreState:
        """Return the current state."""
        shelf = self.shelf
        fields, notes = frozenset(shelf.fields), dict(shelf.notes)
        return StoreState(
            shelf.head, len(shelf.items), fields, notes, shelf.has_index, shelf.changed
        )

    def write_note(self, key: str, value: Any) -> None:
        """Store a named value."""
        self.shelf.notes[key] = value
        if value is None:
            del self.shelf.notes[key]
        if key == "tuning":
            self.shelf.changed = 0

    def search(
        self, queries: Floats, k: int, tree: Filter | None, effort: int | None
    ) -> list[list[Scored]]:
        """Return the k best items of each query, best first."""
        chosen = self._chosen(tree)
        hidden = 10 if effort == 1 and len(chosen) > k + len(chosen) // 10 else 0
        kept = [item for item in chosen if not hidden or item.rid % hidden]
        found = []
        for query in queries:
            scored = [(item, float(self.shelf.rows[item.rid] @ query)) for item in kept]
            found.append(sorted(scored, key=lambda one: -one[1])[:k])
        return found

    def count(self, tree: Filter | None) -> int:
        """Return how many items satisfy a filter."""
        return len(self._chosen(tree))

    def by_rid(self, rids: Sequence[int]) -> dict[int, Item]:
        """Return the items of these numbers."""
        return {item.rid: item for item in self._chosen(None) if item.rid in set(rids)}

    def by_id(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return the items of these ids."""
        return {name: self.shelf.items[name] for name in ids if name in self.shelf.items}

    def embeddings(self, rids: Sequence[int]) -> dict[int, Floats]:
        """Return the embeddings of these numbers."""
        return {rid: self.shelf.rows[rid] for rid in rids if rid in self.shelf.rows}

    def scroll(self, tree: Filter | None, after: int, limit: int) -> list[Item]:
        """Return the first items above a number."""
        return [item for item in self._chosen(tree) if item.rid > after][:limit]

    def rids(self, tree: Filter | None) -> Rids:
        """Return the numbers of all items that satisfy a filter."""
        return np.array([item.rid for item in self._chosen(tree)], np.int64)

    def upsert(
        self,
        ids: Sequence[str],
        rows: Floats,
        metadata: Sequence[dict[str, Any]],
        versions: Sequence[str],
    ) -> None:
        """Insert items of different ids, replacing those that are there."""
        with self.shelf.lock:
            for name, row, one, version in zip(ids, rows, metadata, versions, strict=True):
                self._forget(name)
                item = Item(self.shelf.next_rid, name, version, one)
                self.shelf.items[name], self.shelf.rows[item.rid] = item, row
                self.shelf.fields |= {field for field, _ in walk_fields(one)}
                self.shelf.next_rid += 1
            self._commit(len(ids))

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items; return how many there were."""
        with self.shelf.lock:
            gone = sum(self._forget(name) for name in ids)
            self._commit(gone)
            return gone

    def build_index(self) -> None:
        """Build the index."""
        self.shelf.has_index = True

    def measure_bytes(self) -> int:
        """Return nothing: memory is not told."""
        return 0

    def close(self) -> None:
        """Keep the shelf."""

    def _chosen(self, tree: Filter | None) -> list[Item]:
        with self.shelf.lock:
            items = sorted(self.shelf.items.values(), key=lambda item: item.rid)
        return [item for item in items if tree is None or matches(tree, item.metadata)]

    def _forget(self, name: str) -> bool:
        item = self.shelf.items.pop(name, None)
        if item is not None:
            del self.shelf.rows[item.rid]
        return item is not None

    def _commit(self, changed: int) -> None:
        self.shelf.changed += changed
        self.shelf.head = replace(self.shelf.head, epoch=self.shelf.head.epoch + 1)


def stored_by(shelf: Shelf) -> Callable[[], MemoryStore]:
    """Return what opens the store of a shelf."""
    return lambda: MemoryStore(shelf)
