"""A collection that a vector store keeps, behind the interface of a local one.

It takes the place of `Collection`, so that searches, the server and the command line know one
interface; `StoreWriter` takes that of `Writer`.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.index.collection import MAX_K, Collection
from twinlens.index.hits import Hit, HitLists
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.filters import Filter
from twinlens.index.query.queries import QueryBundle, embed_queries
from twinlens.index.storage.delta import Delta
from twinlens.index.storage.records import Head, Item
from twinlens.index.stores.store import StoreState, VectorStore
from twinlens.index.stores.store_snapshot import StoreCatalog, StoreSnapshot

if TYPE_CHECKING:
    from twinlens.index.query.queries import Queries

STATE_SECONDS = 1.0  # a state that is older is read again


class StoreCollection(Collection):
    """A collection in a store, opened for searches by any number of threads and processes."""

    def __init__(
        self, store: VectorStore, cache: Path, *, bundle: str | Path | None = None
    ) -> None:
        self.store = store
        self.folder = cache  # thumbnails lie here
        self.place = store.place
        self._catalog = StoreCatalog(store)
        self._reading = threading.Lock()
        self._state: tuple[float, StoreState] | None = None
        self._bundle = QueryBundle(lambda: bundle or self.head.bundle_source, self.require_bundle)

    def measure_bytes(self) -> int:
        """Return the bytes that the store uses for the collection."""
        return self.store.measure_bytes()

    def search(
        self,
        queries: Queries,
        k: int = 10,
        *,
        filter: str | Filter | None = None,
        threshold: float | None = None,
        exact: bool = False,
        revision: str | None = None,
    ) -> HitLists:
        """Return the k best items of each query, best first, as `Collection.search` does."""
        if not 1 <= k <= MAX_K:
            raise InputError(f"k is {k}; it must be between 1 and {MAX_K}", field="k")
        tree = parse_filter(filter) if isinstance(filter, str) else filter
        snapshot = self.snapshot_of(revision)
        rows, made_by = embed_queries(queries, snapshot.head.dim, self._bundle)
        if made_by is not None:
            self._check_bundle(snapshot.head, made_by, "the query's bundle")
        lowest = -np.inf if threshold is None else threshold
        found = self.store.search(rows, k, tree, snapshot.effort(exact))
        return HitLists(
            [Hit(item.id, score, item.metadata) for item, score in hits if score >= lowest]
            for hits in found
        )

    def get(self, id: str) -> Item:
        """Return one item."""
        if (found := self.store.by_id([id]).get(id)) is None:
            raise NotFoundError(f"{self.place} has no item {id!r}", field="id")
        return found

    def count(self, filter: str | Filter | None = None) -> int:
        """Return the number of items, or of those that satisfy the filter."""
        return self.store.count(parse_filter(filter) if isinstance(filter, str) else filter)

    def snapshot(self) -> StoreSnapshot:
        """Return the store with its newest known state."""
        with self._reading:
            now = time.monotonic()
            if self._state is None or now - self._state[0] > STATE_SECONDS:
                self._state = now, self.store.read_state()
            state = self._state[1]
        delta = Delta.empty(state.head.dim)
        return StoreSnapshot(state.head, (), delta, 0, 0, store=self.store, state=state)

    def snapshot_of(self, revision: str | None) -> StoreSnapshot:
        """Return the store with its state; refuse if another bundle made its embeddings."""
        snapshot = self.snapshot()
        if revision is not None:
            self._check_bundle(snapshot.head, revision, "the query's bundle")
        return snapshot

    def refresh(self) -> None:
        """Read the state again at the next search."""
        with self._reading:
            self._state = None

    def warm(self) -> None:
        """Do nothing: the store keeps its data."""

    def close(self) -> None:
        """Release the store's connections."""
        self.store.close()

    def _check_bundle(self, head: Head, revision: str, name: str) -> None:
        if head.bundle_revision != revision:
            raise ConflictError(
                f"{self.place} was filled by bundle {head.bundle_name!r} revision"
                f" {head.bundle_revision[:12]}; {name} has revision {revision[:12]}: use that"
                f" bundle ({head.bundle_source or 'path unknown'})",
                field="bundle",
                code="bundle_mismatch",
            )
