"""Writes to a collection that a vector store keeps, behind the interface of a local writer.

Any number of processes may write at once: each write is whole, and the last one of an id counts.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from twinlens.index.storage.records import Item, dump_metadata
from twinlens.index.stores.store import refuse
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.vectors.arrays import unit_rows
from twinlens.index.writer import Writer, check_id


class StoreWriter(Writer):
    """Writes to a store; any number of processes may do so at once."""

    def __init__(self, collection: StoreCollection) -> None:
        self.collection: StoreCollection = collection
        self.store = collection.store
        self.folder = collection.folder
        self._catalog = collection.catalog
        self.maintenance_lock = threading.RLock()

    def upsert(
        self,
        ids: Sequence[str],
        embeddings: npt.ArrayLike,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        versions: Sequence[str] | None = None,
        *,
        revision: str | None = None,
    ) -> int:
        """Insert items, replacing those of the same ids; durable and searchable on return."""
        head = self.collection.snapshot_of(revision).head
        rows = unit_rows(embeddings, head.dim)
        metadata = [{}] * len(ids) if metadata is None else metadata
        versions = [""] * len(ids) if versions is None else versions
        self._check_lengths(ids, rows, metadata, versions)
        places = sorted({check_id(name): place for place, name in enumerate(ids)}.values())
        bodies = [orjson.loads(dump_metadata(dict(metadata[place]))) for place in places]
        if places:
            kept = [versions[place] for place in places]
            self.store.upsert([ids[place] for place in places], rows[places], bodies, kept)
            self.collection.refresh()
        return len(places)

    def rewrite(self, items: Sequence[Item], metadata: Sequence[dict[str, Any]]) -> None:
        """Give items other metadata; their embeddings stay."""
        rows = self.store.embeddings([item.rid for item in items])
        present = [n for n, item in enumerate(items) if item.rid in rows]
        if present:
            self.upsert(
                [items[n].id for n in present],
                np.stack([rows[items[n].rid] for n in present]),
                [metadata[n] for n in present],
                [items[n].version for n in present],
            )

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items, durably on return; unknown ids are ignored."""
        gone = self.store.delete(list(dict.fromkeys(ids))) if len(ids) else 0
        self.collection.refresh()
        return gone

    def seal(self) -> None:
        """Do nothing: a store takes each item in at once."""

    def needs_compaction(self) -> bool:
        """Return False: a store tidies itself."""
        return False

    def compact(self, *, full: bool = False) -> None:
        """Do nothing: a store tidies itself."""

    def restamp(self, versions: Mapping[str, str]) -> None:
        """Refuse: an offline build writes a local collection, which is then migrated."""
        refuse(self.store.place, self.store.label)

    def index_captions(self, fields: Sequence[str] | None = None, rebuild: bool = False) -> None:
        """Refuse: the full-text index of captions is a table of the local catalog."""
        refuse(self.store.place, self.store.label)

    def close(self) -> None:
        """Release the connections."""
        self.collection.close()
