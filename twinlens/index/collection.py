"""A collection opened for search: follows the commits of a writer in this or another process.

Every search first looks whether anything was committed, in microseconds. New items and
deletions are applied at once; a new set of segments is opened and checked in the background and
then swapped in, while searches continue on the old one. A search uses one snapshot throughout.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twinlens.errors import CollectionError, ConflictError, InputError, NotFoundError
from twinlens.index.background_check import check_in_background
from twinlens.index.hits import HitLists, Hits, list_hits
from twinlens.index.lone_search import LoneSearch
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.filters import Filter
from twinlens.index.query.grouping import DUPLICATE_SIMILARITY, group_duplicates
from twinlens.index.query.queries import QueryBundle, embed_queries
from twinlens.index.shown_items import show_items
from twinlens.index.snapshot import CHECK_AFTER, Snapshot, open_snapshot
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.commit_record import CommitWatch, check_epoch, read_record
from twinlens.index.storage.records import Head, Item
from twinlens.index.vectors.arrays import Floats

if TYPE_CHECKING:
    from twinlens.index.query.queries import Queries

MAX_K = 10_000
GROUP_DEPTH = 4
RESIDENT_BYTES = 1 << 30
OPEN_ATTEMPTS = 5

log = logging.getLogger(__name__)


class Collection:
    """A collection on disk, opened for reading by any number of threads and processes."""

    def __init__(
        self,
        folder: str | Path,
        *,
        resident_bytes: int = RESIDENT_BYTES,
        bundle: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.place = str(folder)  # as messages name it
        self._resident_bytes = resident_bytes
        record = read_record(self.folder)  # before the catalog, which only advances
        self._catalog = Catalog(self.folder)
        try:
            check_epoch(self.folder, record, self._catalog.head().epoch)
        except CollectionError as error:
            log.error("searching the remaining items: %s", error.message)
        self._swap = threading.Lock()
        self._loading = threading.Lock()
        self._loader: threading.Thread | None = None
        self._failed_generation = -1
        self._uses = 0
        self._watch = CommitWatch(self.folder)
        self._seen = self._catalog.version()
        self._snapshot = self._load(None)
        self._lone = LoneSearch(self._snapshot)
        self._bundle = QueryBundle(lambda: bundle or self.head.bundle_source, self.require_bundle)

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._catalog.count()

    def __repr__(self) -> str:
        """Return what the collection holds and which bundle it is for."""
        head = self.head
        return f"Collection({str(self.folder)!r}: {len(self):,} items of {head.bundle_name!r})"

    @property
    def head(self) -> Head:
        """The head of the current state: dimension, bundle, epoch."""
        return self._catalog.head()

    @property
    def catalog(self) -> Catalog:
        """The catalog of the collection."""
        return self._catalog

    def require_bundle(self, revision: str, name: str = "this bundle") -> None:
        """Raise unless the bundle's embeddings are comparable with those stored here."""
        self._check_bundle(self.head, revision, name)

    def _check_bundle(self, head: Head, revision: str, name: str) -> None:
        if head.bundle_revision != revision:
            raise ConflictError(
                f"{self.folder} was built with bundle {head.bundle_name!r} revision"
                f" {head.bundle_revision[:12]}; {name} has revision {revision[:12]}: use that"
                f" bundle ({head.bundle_source or 'path unknown'}), or build the collection again",
                field="bundle",
                code="bundle_mismatch",
            )

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
        """Return the k best items of each query, best first.

        A query is a text or an image (a `Path`, encoded bytes, a PIL image, a uint8 array), which
        the bundle embeds, or a vector; one alone is a list of one. Exactly min(k, matches) items
        that satisfy `filter` are returned; `threshold` then drops those that score below it.
        Vectors of another bundle's `revision` are refused.
        """
        if not 1 <= k <= MAX_K:
            raise InputError(f"k is {k}; it must be between 1 and {MAX_K}", field="k")
        tree = parse_filter(filter) if isinstance(filter, str) else filter
        for _ in range(OPEN_ATTEMPTS):
            snapshot = self.snapshot() if revision is None else self.snapshot_of(revision)
            rows, made_by = embed_queries(queries, snapshot.head.dim, self._bundle)
            if made_by not in (None, snapshot.head.bundle_revision):
                self.refresh()  # the collection moves to another bundle just now
                continue
            if tree is None and not exact and len(rows) == 1:
                if self._lone.snapshot is not snapshot:
                    self._lone = LoneSearch(snapshot)
                if (found := self._lone.search(rows, k, threshold)) is not None:
                    return found
            scores, rids = snapshot.search(rows, k, tree, exact=exact)
            wanted = list({rid for rid in rids.ravel().tolist() if rid >= 0})
            items = show_items(snapshot, self._catalog, wanted)
            if len(items) == len(wanted):
                return list_hits(scores, rids, items, threshold)
            # An item was deleted between the search and the lookup: search again.
            self.refresh()
        raise CollectionError(f"{self.folder}: a row has no item; run `twinlens index verify`")

    def search_grouped(
        self,
        query: Queries,
        k: int = 10,
        *,
        similarity: float = DUPLICATE_SIMILARITY,
        filter: str | Filter | None = None,
        threshold: float | None = None,
        revision: str | None = None,
    ) -> Hits:
        """Return the k best items without near-duplicates; each lists its own as `duplicates`.

        Groups the best `GROUP_DEPTH * k` items; with more copies than that, fewer groups remain.
        """
        deep = min(MAX_K, GROUP_DEPTH * k)
        hits = self.search(query, deep, filter=filter, threshold=threshold, revision=revision)[0]
        snapshot = self.snapshot()
        items = self._catalog.by_id([hit.id for hit in hits])
        found = [(hit, snapshot.embedding(items[hit.id].rid)) for hit in hits if hit.id in items]
        present = [(hit, row) for hit, row in found if row is not None]
        if not present:
            return Hits()
        groups = group_duplicates(np.stack([row for _, row in present]), similarity)
        return Hits(
            replace(
                present[group[0]][0], duplicates=tuple(present[place][0].id for place in group[1:])
            )
            for group in groups[:k]
        )

    def get(self, id: str) -> Item:
        """Return one item."""
        if (found := self._catalog.by_id([id]).get(id)) is None:
            raise NotFoundError(f"{self.folder} has no item {id!r}", field="id")
        return found

    def embedding(self, id: str) -> Floats:
        """Return the embedding of one item, as stored: float16 precision."""
        for _ in range(OPEN_ATTEMPTS):
            row = self.snapshot().embedding(self.get(id).rid)
            if row is not None:
                return row
            self.refresh()
        raise CollectionError(f"{self.folder}: item {id!r} has no embedding; run verify")

    def count(self, filter: str | Filter | None = None) -> int:
        """Return the number of items, or of those that satisfy the filter."""
        if filter is None:
            return self.snapshot().live_count
        tree = parse_filter(filter) if isinstance(filter, str) else filter
        return sum(int(np.count_nonzero(mask)) for _, mask in self.snapshot().select(tree))

    def require_fields(self, filter: str | Filter) -> None:
        """Refuse a filter that compares a field which no item has."""
        self.snapshot().require_fields(parse_filter(filter) if isinstance(filter, str) else filter)

    def snapshot(self) -> Snapshot:
        """Return the newest searchable state."""
        self._uses += 1
        if self._uses == CHECK_AFTER:
            check_in_background(self._snapshot)
        if (looked := self._watch.look()) is not None:
            if self._catalog.version() != self._seen:
                self._advance()
            self._watch.settle(looked)
        return self._snapshot

    def snapshot_of(self, revision: str | None) -> Snapshot:
        """Return the newest searchable state; refuse if another bundle made its embeddings."""
        snapshot = self.snapshot()
        if revision is not None:
            self._check_bundle(snapshot.head, revision, "the query's bundle")
        return snapshot

    def refresh(self) -> None:
        """Wait until searches use the newest committed state."""
        with self._loading:
            self._advance(load=False)
            if self._catalog.head().generation != self._snapshot.head.generation:
                self._install(self._load(self._snapshot, check=True))

    def warm(self) -> None:
        """Check and load all data that searches use, so that the first search is not slow."""
        self._snapshot.warm()

    def measure_bytes(self) -> int:
        """Return the bytes of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def close(self) -> None:
        """Release files and the connection."""
        if self._loader is not None:
            self._loader.join()
        self._watch.close()
        self._catalog.close()

    def _advance(self, load: bool = True) -> None:
        """Apply new items and tombstones; load new segments in the background."""
        with self._swap:
            version, old = self._catalog.version(), self._snapshot
            changes = self._catalog.changes(old.last_rid, old.last_seq)
            self._snapshot = old.absorb(changes)
            # Set only now, to the version read before: no thread may skip changes still being read.
            self._seen = version
            generation = changes.head.generation
            moved = generation not in {old.head.generation, self._failed_generation}
            busy = self._loader is not None and self._loader.is_alive()
            if moved and load and not busy:
                self._loader = threading.Thread(
                    target=self._follow, args=(generation,), name="collection-loader", daemon=True
                )
                self._loader.start()

    def _follow(self, generation: int) -> None:
        try:
            self.refresh()
        except CollectionError as error:
            # The old segments still answer; the next generation will be tried again.
            self._failed_generation = generation
            log.error("generation %d of %s: %s", generation, self.folder, error.message)

    def _install(self, snapshot: Snapshot) -> None:
        with self._swap:
            changes = self._catalog.changes(snapshot.last_rid, snapshot.last_seq)
            self._snapshot = snapshot.absorb(changes)

    def _load(self, old: Snapshot | None, check: bool = False) -> Snapshot:
        """Open the newest state; retry if a compaction removes a folder meanwhile."""
        for attempt in range(OPEN_ATTEMPTS):
            changes = self._catalog.changes(0, 0, with_segments=True)
            try:
                return open_snapshot(self.folder, changes, old, self._resident_bytes, check)
            except CollectionError:
                newest = self._catalog.head().generation
                if newest == changes.head.generation or attempt == OPEN_ATTEMPTS - 1:
                    raise
        raise RuntimeError("unreachable: the last attempt returns or raises")
