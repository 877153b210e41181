"""Copies a collection from one place to another: folder to store, store to folder, store to store.

Ids, metadata, versions and the order of items come along. Items that are there unchanged are passed
over, so a copy that was cut off goes on when it is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from twinlens.errors import CollectionError
from twinlens.index.collection import Collection
from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.records import Item
from twinlens.index.stores.store_snapshot import StoreSnapshot
from twinlens.index.vectors.arrays import Floats
from twinlens.index.writer import Writer

PAGE = 1000


def copy_items(
    source: Collection,
    writer: Writer,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Copy all items; return how many were written and how many were there already."""
    revision = source.head.bundle_revision
    writer.collection.require_bundle(revision, source.place)
    written = passed = 0
    total = len(source)
    for items, rows in _read_pages(source):
        known = writer.catalog.by_id([item.id for item in items])
        new = [n for n, item in enumerate(items) if not _is_same(item, known.get(item.id))]
        if new:
            writer.upsert(
                [items[n].id for n in new],
                rows[new],
                [items[n].metadata for n in new],
                [items[n].version for n in new],
                revision=revision,
            )
        written, passed = written + len(new), passed + len(items) - len(new)
        observe(written + passed, total)
    _check(source, writer)
    return written, passed


def _read_pages(source: Collection) -> Iterator[tuple[list[Item], Floats]]:
    """Yield items in the order of writing, with their embeddings."""
    snapshot = source.snapshot()
    after = 0
    while page := list(source.catalog.items(after, PAGE)):
        after = page[-1].rid
        rows = _read_embeddings(snapshot, [item.rid for item in page])
        present = [item for item in page if item.rid in rows]
        if present:
            yield present, np.stack([rows[item.rid] for item in present])


def _read_embeddings(snapshot: Snapshot, rids: Sequence[int]) -> dict[int, Floats]:
    if isinstance(snapshot, StoreSnapshot):
        return snapshot.store.embeddings(rids)
    found = ((rid, snapshot.embedding(rid)) for rid in rids)
    return {rid: row for rid, row in found if row is not None}


def _is_same(item: Item, known: Item | None) -> bool:
    """Whether an item is there: items without a version may have other embeddings."""
    if known is None or not item.version:
        return False
    return (known.version, known.metadata) == (item.version, item.metadata)


def _check(source: Collection, writer: Writer) -> None:
    """Raise if an item of the source is missing now."""
    there, here = len(writer.collection), len(source)
    if there < here:
        raise CollectionError(
            f"{writer.collection.place} has {there} items after the copy, {source.place} has"
            f" {here}; run the same command again"
        )
