"""Embeds all items of a collection again with another bundle, beside searches and writes.

The images are read from where the indexer found them. What was embedded is recorded about twice a
minute, or more often, and is not embedded again; items that are written meanwhile follow at the
end, and those deleted meanwhile are left out when the set is joined into one indexed segment.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from twinlens.errors import ConflictError
from twinlens.index.collection import Collection
from twinlens.index.ingest.corpus import read_path
from twinlens.index.ingest.item_files import find_file
from twinlens.index.maintenance import (
    MIN_ROWS,
    IndexPlan,
    check_plan,
    index_rows,
    plan_kinds,
    share_memory,
)
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.column_build import build_columns
from twinlens.index.storage.item_file import encode_items
from twinlens.index.storage.lock import WriterLock
from twinlens.index.storage.merging import write_merged
from twinlens.index.storage.records import BundleRecord, Item, SegmentRow, dump_metadata
from twinlens.index.storage.segment import Content, Segment, write_segment
from twinlens.index.upkeep.embedding_set import NEXT_NAME, BundleEmbeddings, QuerySample, read_set
from twinlens.index.vectors.arrays import Floats, Rids, unit_rows

FIRST_ROWS = 256
RECORDED_ROWS = 8192
RECORDED_SECONDS = 30.0
PAGE = 100_000


class ItemEncoder(Protocol):
    """The stages of an encoder that embedding an item takes."""

    def preprocess(self, image: bytes, /) -> npt.NDArray[np.uint8]:
        """Return pixels (height, width, 3)."""

    def encode_pixels(self, pixels: npt.NDArray[np.uint8], /) -> Floats:
        """Return embeddings (n, d)."""


@dataclass(frozen=True)
class EmbeddedBatch:
    """The rids of items with their rows, and of those whose image could not be embedded."""

    rids: Rids
    rows: Floats
    unread: tuple[int, ...]


def stage(
    collection: Collection,
    bundle: BundleRecord,
    encoder: ItemEncoder,
    *,
    batch: int = 32,
    workers: int = 2,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> BundleEmbeddings:
    """Embed the items that the set `next` lacks; return it, complete for this moment."""
    folder = collection.folder / NEXT_NAME
    folder.mkdir(exist_ok=True)
    with WriterLock(folder), ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        held = _begin(collection, BundleEmbeddings(folder, bundle))
        total = len(collection)
        done = sum(row.rows for row in held.segments)
        size = FIRST_ROWS
        while group := list(collection.catalog.items(held.last_rid, size)):
            began = time.monotonic()
            found = embed_items(group, encoder, pool, batch)
            held = _record(held, group, found)
            is_quick = time.monotonic() - began < RECORDED_SECONDS / 2
            size = min(RECORDED_ROWS, 2 * size) if is_quick else max(batch, size // 2)
            done += len(group)
            tell(min(done, total), total)
        return held


def _begin(collection: Collection, fresh: BundleEmbeddings) -> BundleEmbeddings:
    """Return what an earlier run has staged, or a new set."""
    if collection.head.bundle_revision == fresh.bundle.revision:
        raise ConflictError(
            f"{collection.folder} holds the embeddings of this bundle already", field="bundle"
        )
    held = read_set(fresh.folder)
    if held is not None and held.bundle.revision == collection.head.bundle_revision:
        held = None  # swapped in, and the process was killed before it removed the folder
    if held is not None and held.bundle.revision != fresh.bundle.revision:
        raise ConflictError(
            f"{fresh.folder} holds embeddings of {held.bundle.name!r} revision"
            f" {held.bundle.revision[:12]}, not yet swapped in: go on with that bundle, or remove"
            " them with --discard",
            field="bundle",
        )
    if held is None:
        held = fresh
        held.save()
    held.sweep()
    return held


def embed_items(
    items: Sequence[Item], encoder: ItemEncoder, pool: ThreadPoolExecutor, batch: int
) -> EmbeddedBatch:
    """Embed the images of items, in their order."""
    rids: list[int] = []
    unread: list[int] = []
    rows: list[Floats] = []
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        decoded = list(pool.map(lambda item: _decode(item, encoder), part))
        pixels = [one for one in decoded if one is not None]
        rids += [i.rid for i, one in zip(part, decoded, strict=True) if one is not None]
        unread += [i.rid for i, one in zip(part, decoded, strict=True) if one is None]
        if pixels:
            rows.append(encoder.encode_pixels(np.stack(pixels)))
    joined = np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
    return EmbeddedBatch(np.asarray(rids, np.int64), joined, tuple(unread))


def _decode(item: Item, encoder: ItemEncoder) -> npt.NDArray[np.uint8] | None:
    path = find_file(item)
    try:
        return None if path is None else encoder.preprocess(read_path(path))
    except Exception:  # gone, changed or damaged: a file may raise any error
        return None


def _record(
    held: BundleEmbeddings, group: Sequence[Item], found: EmbeddedBatch
) -> BundleEmbeddings:
    if len(found.rids):
        rows = unit_rows(found.rows, held.bundle.dim)
        of = {item.rid: item for item in group}
        ids = [of[rid].id for rid in found.rids.tolist()]
        bodies = [dump_metadata(of[rid].metadata) for rid in found.rids.tolist()]
        content = Content(
            found.rids,
            held.bundle.dim,
            lambda: iter([rows]),
            lambda: build_columns(of[rid].metadata for rid in found.rids.tolist()),
            lambda: iter([encode_items(found.rids, ids, bodies)]),
        )
        row = write_segment(held.folder, content)
        held = replace(held, segments=(*held.segments, row))
    held = replace(held, unread=(*held.unread, *found.unread), last_rid=group[-1].rid)
    held.save()
    return held


def consolidate(
    collection: Collection,
    held: BundleEmbeddings,
    sample: QuerySample | None,
    plan: IndexPlan,
    observe: Callable[[str], None] = lambda stage: None,
) -> BundleEmbeddings:
    """Join the segments of a staged set, without deleted items, and index them as planned."""
    check_plan(plan)
    with WriterLock(held.folder):
        if sample is not None:
            held.write_queries(sample)
        if len(held.segments) > 1 or (held.segments and held.segments[0].index is None):
            observe("joining segments")
            held = _join(collection.catalog, held)
            held = _index(held, sample, plan, observe)
        return held


def _join(catalog: Catalog, held: BundleEmbeddings) -> BundleEmbeddings:
    dead = np.setdiff1d(held.rids(), list_rids(catalog))
    joined = write_merged(held.folder, held.segments, held.bundle.dim, dead, catalog.item_records)
    return _replace_segments(held, joined)


def _index(
    held: BundleEmbeddings,
    sample: QuerySample | None,
    plan: IndexPlan,
    observe: Callable[[str], None],
) -> BundleEmbeddings:
    text = None if sample is None else sample.rows
    rows = list(held.segments)
    for number, row in enumerate(rows):
        kinds = plan_kinds(share_memory(plan, row, rows), row.rows, held.bundle.dim, text)
        if kinds and row.rows >= MIN_ROWS:
            segment = Segment(held.folder, row, held.bundle.dim)
            index = index_rows(held.folder, segment, plan, kinds, text, None, observe)
            rows[number] = replace(row, index=index)
            held = _replace_segments(held, rows)
    return held


def _replace_segments(held: BundleEmbeddings, rows: Sequence[SegmentRow]) -> BundleEmbeddings:
    held = replace(held, segments=tuple(rows))
    held.save()
    held.sweep()
    return held


def list_rids(catalog: Catalog) -> Rids:
    """Return the rids of all items, ascending."""
    pages, after = [np.empty(0, np.int64)], 0
    while rows := catalog.select(
        "SELECT rid FROM items WHERE rid > ? ORDER BY rid LIMIT ?", (after, PAGE)
    ):
        pages.append(np.array(rows, dtype=np.int64).ravel())
        after = int(pages[-1][-1])
    return np.concatenate(pages)


def discard(place: Path) -> bool:
    """Remove the set `next` of a collection; return whether there was one."""
    folder = place / NEXT_NAME
    if not folder.exists():
        return False
    with WriterLock(folder):
        shutil.rmtree(folder)
    return True
