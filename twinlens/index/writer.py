"""The single writer of a collection: upsert, delete, seal, compact.

When a method returns, its changes are on disk. Large files are written before any transaction; a
transaction of milliseconds then adds them to the collection.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from twinlens.disk import sync
from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.storage import compaction
from twinlens.index.storage.caption_build import build_captions
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.column_build import build_columns
from twinlens.index.storage.compaction import SegmentState, plan_merges
from twinlens.index.storage.durable import PENDING, fresh_name, refuse_network
from twinlens.index.storage.lock import WriterLock
from twinlens.index.storage.merging import count_live, write_merged
from twinlens.index.storage.new_catalog import create_catalog
from twinlens.index.storage.records import Head, Item, SegmentRow, dump_metadata, now
from twinlens.index.storage.segment import Content, Segment, write_segment
from twinlens.index.vectors.arrays import Floats, unit_rows

SEAL_ROWS = 8192  # delta rows that become a segment; larger batches skip the delta
MERGE_COUNT = 8  # small segments that a seal merges into one
MAX_ID = 4096


def create_collection(
    folder: str | Path,
    *,
    dim: int,
    bundle_name: str = "",
    bundle_revision: str = "",
    bundle_source: str = "",
) -> None:
    """Create an empty collection at `folder`, which must not exist or be empty."""
    place = Path(folder)
    if dim < 1:
        raise InputError(f"dim is {dim}; it must be at least 1", field="dim")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{place} exists and is not an empty folder", field="folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    refuse_network(place.parent)
    pending = place.parent / fresh_name(f"{PENDING}{place.name}")
    pending.mkdir()
    try:
        head = Head(dim, bundle_name, bundle_revision, bundle_source, created=now())
        create_catalog(pending, head)
        sync(pending)
        pending.rename(place)
    except BaseException:
        shutil.rmtree(pending, ignore_errors=True)
        raise
    sync(place.parent)


class Writer:
    """Holds a collection's writer lock; its `collection` sees each write at once."""

    def __init__(self, folder: str | Path, *, seal_rows: int = SEAL_ROWS) -> None:
        self.folder = Path(folder)
        self._seal_rows = seal_rows
        self._catalog: Catalog | None = None
        if not (self.folder / "catalog.sqlite").is_file():
            Catalog(self.folder)  # raises an error that names what is missing
        refuse_network(self.folder)
        self._lock = WriterLock(self.folder)
        self.maintenance_lock = threading.RLock()  # one seal, merge or index build at a time
        try:
            self._catalog = Catalog(self.folder, write=True)
            self.sweep()
            self.collection = Collection(self.folder)
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def catalog(self) -> Catalog:
        """The writable connection."""
        if self._catalog is None:
            raise RuntimeError("the writer is closed")
        return self._catalog

    def upsert(
        self,
        ids: Sequence[str],
        embeddings: npt.ArrayLike,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        versions: Sequence[str] | None = None,
        *,
        revision: str | None = None,
    ) -> int:
        """Insert items, replacing those of the same ids; durable and searchable on return.

        The last of equal ids is used; another bundle's `revision` is refused. Returns the count.
        """
        self.collection.require_bundle(revision) if revision is not None else None
        rows = unit_rows(embeddings, self.catalog.head().dim)
        metadata = [{}] * len(ids) if metadata is None else metadata
        versions = [""] * len(ids) if versions is None else versions
        self._check_lengths(ids, rows, metadata, versions)
        last = {check_id(name): place for place, name in enumerate(ids)}
        places = sorted(last.values())
        batch = _Batch(
            [ids[place] for place in places],
            rows[places],
            [dict(metadata[place]) for place in places],
            [versions[place] for place in places],
        )
        if len(batch.ids) >= self._seal_rows:
            self._write_directly(batch)
        elif batch.ids:
            with self.catalog.writing() as transaction:
                rids = transaction.replace_items(batch.ids, batch.versions, batch.metadata)
                transaction.insert_delta(rids, batch.rows)
            if self.catalog.delta_count() >= self._seal_rows:
                self.seal()
        return len(batch.ids)

    def rewrite(self, items: Sequence[Item], metadata: Sequence[dict[str, Any]]) -> None:
        """Give items other metadata, durably on return; their embeddings stay."""
        rows = np.stack([self.collection.embedding(item.id) for item in items])
        ids, versions = [item.id for item in items], [item.version for item in items]
        with self.catalog.writing() as transaction:
            transaction.insert_delta(transaction.replace_items(ids, versions, metadata), rows)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items, durably on return; unknown ids are ignored."""
        with self.catalog.writing() as transaction:
            return transaction.delete_items(ids)

    def restamp(self, versions: Mapping[str, str]) -> None:
        """Give unchanged items another version, by id; unknown ids are ignored."""
        with self.catalog.writing() as transaction:
            transaction.restamp(versions)

    def index_captions(self, fields: Sequence[str] | None = None, rebuild: bool = False) -> None:
        """Index captions for search by words; later writes keep the index in step."""
        build_captions(self.catalog, fields, rebuild=rebuild)

    def seal(self) -> None:
        """Write the delta as a new segment, and merge small segments if there are many."""
        with self.maintenance_lock:
            self.collection.refresh()
            changes = self.catalog.changes(0, 0)
            if len(changes.rids):
                content = Content(
                    changes.rids,
                    changes.head.dim,
                    lambda: iter([changes.embeddings]),
                    lambda: build_columns(changes.metadata),
                )
                row = write_segment(self.folder, content)
                with self.catalog.writing(new_generation=True) as transaction:
                    transaction.insert_segment(row)
                    transaction.clear_delta(int(changes.rids[-1]))
                self.collection.refresh()
            small = [row for row in self.catalog.segments() if row.rows < compaction.SMALL_ROWS]
            if len(small) >= MERGE_COUNT:
                self._merge(small)

    def needs_compaction(self) -> bool:
        """Seal the delta; return whether `compact` would write a segment anew."""
        with self.maintenance_lock:
            self.seal()
            return bool(plan_merges(self._states()))

    def compact(self, *, full: bool = False) -> None:
        """Drop deleted rows and join segments where that is worth it, by `storage.compaction`.

        With `full`, every deleted row is dropped, whatever has to be written anew for that.
        """
        with self.maintenance_lock:
            self.seal()
            for rows in plan_merges(self._states(), full=full):
                self._merge(rows)

    def close(self) -> None:
        """Release the collection."""
        self.collection.close()
        self._release()

    # --- private ---------------------------------------------------------------------------

    def _release(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None
        self._lock.release()

    def _check_lengths(self, ids: Sequence[str], *others: Any) -> None:
        for name, other in zip(("embeddings", "metadata", "versions"), others, strict=True):
            if len(other) != len(ids):
                raise InputError(f"{len(ids)} ids but {len(other)} {name}", field=name)

    def _write_directly(self, batch: _Batch) -> None:
        """Write a large batch directly as a segment.

        This is the only writer, so the rids of the next transaction are known in advance.
        """
        with self.maintenance_lock, self.catalog.blocking_commits():
            first = self.catalog.head().next_rid
            rids = np.arange(first, first + len(batch.ids), dtype=np.int64)
            bodies = [dump_metadata(one) for one in batch.metadata]  # raise before writing
            content = Content(
                rids,
                batch.rows.shape[1],
                lambda: iter([batch.rows]),
                lambda: build_columns(map(orjson.loads, bodies)),  # as the catalog tells them
            )
            row = write_segment(self.folder, content)
            with self.catalog.writing(new_generation=True) as transaction:
                given = transaction.replace_items(batch.ids, batch.versions, batch.metadata)
                if given[0] != first:
                    raise RuntimeError("the rids moved under the writer lock: this is a bug")
                transaction.insert_segment(row)
        self.collection.refresh()

    def _merge(self, rows: list[SegmentRow]) -> None:
        """Replace segments by as few as may hold their live rows."""
        head = self.catalog.head()
        seqs, dead = self.catalog.tombstones()
        merged = write_merged(self.folder, rows, head.dim, dead)
        gone = {row.name for row in rows}
        left = [row for row in self.catalog.segments() if row.name not in gone]
        needed = np.zeros(len(dead), dtype=bool)
        for row in left:
            needed |= Segment(self.folder, row, head.dim).place_of(dead) >= 0
        with self.catalog.writing(new_generation=True) as transaction:
            for row in merged:
                transaction.insert_segment(row)
            for row in rows:
                transaction.drop_segment(row.name)
            transaction.forget_tombstones(seqs[~needed])
        self.collection.refresh()
        self.sweep()

    def _states(self) -> list[SegmentState]:
        dim, (_, dead) = self.catalog.head().dim, self.catalog.tombstones()
        return [
            SegmentState(row, count_live(self.folder, row, dim, dead))
            for row in self.catalog.segments()
        ]

    def sweep(self) -> None:
        """Remove folders that no commit names: left by a crash or replaced by a merge."""
        rows = self.catalog.segments()
        named = {row.name for row in rows} | {row.index.name for row in rows if row.index}
        for path in self.folder.iterdir():
            ours = path.name.startswith(("seg-", "idx-", PENDING))
            if path.is_dir() and ours and path.name not in named:
                shutil.rmtree(path)


@dataclass(frozen=True)
class _Batch:
    """The checked content of one upsert."""

    ids: list[str]
    rows: Floats
    metadata: list[dict[str, Any]]
    versions: list[str]


def check_id(name: str) -> str:
    """Return `name` if it is a valid item id, else raise."""
    if not isinstance(name, str) or not name or len(name) > MAX_ID or "\0" in name:
        raise InputError(
            f"id {name!r:.80} is not usable; an id is a string of 1 to {MAX_ID} characters",
            field="id",
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"id {name!r:.80} is not valid Unicode", field="id") from None
    return name
