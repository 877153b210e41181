"""A store as searches see it, in the shape of a local collection's snapshot and catalog.

What a store does not have (segments, a catalog file, captions) is refused with the way out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from twinlens.index.ann.recall import MEASURED, NOT_MEASURED, STALE, RecallReport
from twinlens.index.query.filters import Filter
from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.records import Head, Item
from twinlens.index.stores.store import StoreState, VectorStore, refuse
from twinlens.index.vectors.arrays import Floats, Halves, Mask, Rids

TUNING_NOTE = "tuning"
PAGE = 1000  # items a call
CHANGED_SHARE = 0.1  # of the items: a recall measured before so many changes is stale


@dataclass(frozen=True, kw_only=True)
class StoreSnapshot(Snapshot):
    """The store as searches see it now: it has no segments, and each search sees newer writes."""

    store: VectorStore
    state: StoreState

    def search(
        self, queries: Floats, k: int, tree: Filter | None = None, *, exact: bool = False
    ) -> tuple[Floats, Rids]:
        """Return the k best rows of each query, best first; missing ones are -inf and -1."""
        found = self.store.search(queries, k, tree, self.effort(exact))
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rids = np.full((len(queries), k), -1, np.int64)
        for row, hits in enumerate(found):
            scores[row, : len(hits)] = [score for _, score in hits]
            rids[row, : len(hits)] = [item.rid for item, _ in hits]
        return scores, rids

    def effort(self, exact: bool) -> int | None:
        """Return how thoroughly the index is asked; None: all items are compared."""
        if exact or not self.state.has_index:
            return None
        return int(self.state.notes.get(TUNING_NOTE, {}).get("effort", self.store.efforts[0]))

    def select(self, tree: Filter | None) -> Iterator[tuple[Rids, Mask]]:
        """Yield the numbers of the items that satisfy the filter, all of them chosen."""
        rids = self.store.rids(tree)
        yield rids, np.ones(len(rids), bool)

    def embedding(self, rid: int) -> Floats | None:
        """Return the embedding of an item."""
        return self.store.embeddings([rid]).get(rid)

    def read_rows(self) -> tuple[Rids, Halves]:
        """Return the numbers of all items, ascending, and their embeddings (n, d)."""
        rids = self.store.rids(None).tolist()
        kept: list[int] = []
        blocks = [np.empty((0, self.head.dim), np.float16)]
        for start in range(0, len(rids), PAGE):
            rows = self.store.embeddings(rids[start : start + PAGE])
            kept += sorted(rows)
            blocks += [np.stack([rows[rid] for rid in sorted(rows)]).astype(np.float16)]
        return np.array(kept, np.int64), np.concatenate(blocks)

    def fields(self) -> set[str]:
        """Return the metadata fields that items have, or had."""
        return set(self.state.fields)

    def warm(self) -> None:
        """Do nothing: the store keeps its data."""

    @property
    def live_count(self) -> int:
        """The number of items."""
        return self.state.count

    @property
    def is_exact(self) -> bool:
        """Whether an unfiltered search compares every item."""
        return not self.state.has_index

    def told_recall(self, modality: str) -> RecallReport:
        """Return the recall@10 that the store's index was measured at."""
        if self.is_exact:
            return RecallReport(MEASURED, 1.0, 1.0, 1.0)
        found = self.state.notes.get(TUNING_NOTE, {}).get("recall", {}).get(modality)
        if found is None:
            return RecallReport(NOT_MEASURED)
        if self.state.changed > CHANGED_SHARE * max(1, self.state.count):
            return RecallReport(STALE)
        return RecallReport(MEASURED, found["value"], found["low"], found["high"])


class StoreCatalog(Catalog):
    """The items of a store as the catalog of a local collection tells them."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self._lock = threading.RLock()

    def close(self) -> None:
        """Do nothing: the collection closes the store."""

    def head(self) -> Head:
        """Return the current head."""
        return self._store.read_state().head

    def count(self) -> int:
        """Return the number of items."""
        return self._store.count(None)

    def by_rid(self, rids: Sequence[int]) -> dict[int, Item]:
        """Return the items of these numbers; deleted ones are omitted."""
        return self._store.by_rid(rids) if len(rids) else {}

    def by_id(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return the items of these ids; unknown ones are omitted."""
        return self._store.by_id(ids) if len(ids) else {}

    def versions(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the versions of these ids; unknown ones are omitted."""
        return {name: item.version for name, item in self.by_id(ids).items()}

    def items(self, after: int = 0, limit: int | None = None, step: int = 1) -> Iterator[Item]:
        """Yield the items in the order of their numbers; with `step`, about one in so many."""
        left = limit
        while left is None or left > 0:
            page = self._store.scroll(None, after, min(PAGE, left or PAGE))
            yield from (item for item in page if item.rid % step == 0)
            if not page:
                return
            after = page[-1].rid
            left = None if left is None else left - len(page)

    def delta_count(self) -> int:
        """Return 0: a store takes each item in at once."""
        return 0

    def extensions(self) -> dict[str, Any]:
        """Return the named additions that are stored with the collection."""
        return dict(self._store.read_state().notes)

    @contextmanager
    def blocking_commits(self) -> Iterator[None]:
        """Hold off nobody: a store has many writers, and each of their writes is whole."""
        yield

    def note(self, key: str) -> bytes | None:
        """Return None: samples of queries are kept in the catalog of a folder."""
        return None

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> NoReturn:
        """Refuse what only a catalog on this disk can tell."""
        refuse(self._store.place, self._store.label)
