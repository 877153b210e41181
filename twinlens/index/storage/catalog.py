"""`catalog.sqlite`: the items of a collection, and its single commit point.

A transaction that returned is on disk (WAL, synchronous FULL); files that it does not name are
ignored, so a crash leaves either the old or the new state. Every row has a checksum, since SQLite
has none: a flipped byte raises an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from twinlens.errors import CollectionError
from twinlens.index.storage.commit_record import CommitLedger, check_epoch, check_log
from twinlens.index.storage.database import CATALOG_NAME, Database, count_frames
from twinlens.index.storage.item_file import ItemRecords, encode_items
from twinlens.index.storage.records import (
    READABLE,
    Changes,
    Head,
    Item,
    SegmentRow,
    checksum,
    dump_metadata,
    head_from,
    item_checksum,
    segment_from,
)
from twinlens.index.storage.transaction import EXTENSIONS_NOTE, RECORD_PROMISE, Transaction
from twinlens.index.vectors.arrays import Floats, Rids

CHUNK = 500  # ids per query, below SQLite's limit on parameters


class Catalog(Database):
    """One thread-safe connection to the catalog."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        path = folder / CATALOG_NAME
        if not path.is_file():
            raise CollectionError(
                f"{folder} is not a collection: it has no {CATALOG_NAME};"
                " make one with `twinlens index build CORPUS -o DIR`"
            )
        self._ledger: CommitLedger | None = None
        record = check_log(folder) if write else None  # before SQLite checkpoints the log
        super().__init__(path, write=write)
        epoch = self.head().epoch
        if write:
            try:
                check_epoch(folder, record, epoch)
                self._ledger = CommitLedger(folder, epoch, count_frames(self._db))
                self._promise_record()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Release the connection."""
        with self._lock:
            self._db.close()
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None

    # --- reading ---------------------------------------------------------------------------

    def select(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query, for tables that have a module of their own."""
        return self._all(sql, values)

    def version(self) -> int:
        """Return a number that changes when another connection commits; takes 3 microseconds."""
        with self._lock:
            return int(self._execute("PRAGMA data_version").fetchone()[0])

    def head(self) -> Head:
        """Return the current head."""
        return head_from(self.raw_head())

    def raw_head(self) -> dict[str, Any]:
        """Return the head with the fields that only later versions know."""
        body, crc = self._one("SELECT body, crc FROM head")
        self._check(crc, body)
        raw: dict[str, Any] = json.loads(body)
        if raw.get("format") not in READABLE:
            raise CollectionError(
                f"{self.path}: format {raw.get('format')!r} is unknown;"
                f" this version reads formats {' and '.join(map(str, READABLE))}"
            )
        return raw

    def changes(self, last_rid: int, last_seq: int, *, with_segments: bool = False) -> Changes:
        """Return all changes committed after this point, read in one transaction."""
        with self.reading():
            head = self.head()
            found = self._all(
                "SELECT d.rid, d.embedding, d.crc, i.id, i.version, i.metadata, i.crc"
                " FROM delta d JOIN items i USING (rid) WHERE d.rid > ? ORDER BY d.rid",
                (last_rid,),
            )
            _, deleted = self.tombstones(last_seq)
            segments = tuple(self.segments()) if with_segments else ()
        for rid, embedding, crc, *item in found:
            self._check(crc, rid, embedding)
            self._check(item[3], rid, *item[:3])
        return Changes(
            head,
            segments,
            np.array([row[0] for row in found], dtype=np.int64),
            [row[3] for row in found],
            _rows([row[1] for row in found], head.dim),
            [orjson.loads(row[5]) for row in found],
            deleted,
        )

    def tombstones(self, after: int = 0) -> tuple[Rids, Rids]:
        """Return the numbers of the tombstones behind one, ascending, and the rids they delete."""
        pages = [np.empty((0, 2), np.int64)]
        for page in self._pages("SELECT seq, rid, crc FROM tombstones WHERE seq > ?", after):
            for seq, rid, crc in page:
                self._check(crc, seq, rid)
            pages.append(np.array([row[:2] for row in page], dtype=np.int64))
        seqs, rids = np.concatenate(pages).T
        return seqs, rids

    def segments(self) -> list[SegmentRow]:
        """Return the segments that exist, oldest first."""
        rows = []
        for name, body, crc in self._all("SELECT name, body, crc FROM segments ORDER BY name"):
            self._check(crc, name, body)
            rows.append(segment_from(name, json.loads(body)))
        return rows

    def count(self) -> int:
        """Return the number of items."""
        return int(self._one("SELECT count(*) FROM items")[0])

    def delta_count(self) -> int:
        """Return the number of items not yet in a segment."""
        return int(self._one("SELECT count(*) FROM delta")[0])

    def by_rid(self, rids: Sequence[int]) -> dict[int, Item]:
        """Return the items of these rids; deleted ones are omitted."""
        return {item.rid: item for item in self._items("rid", rids)}

    def item_records(self, rids: Rids) -> ItemRecords:
        """Return the records of items for a segment; those of deleted ones are empty."""
        found, gone = self.by_rid(rids.tolist()), Item(0, "", "", {})
        items = [found.get(rid, gone) for rid in rids.tolist()]
        bodies = [dump_metadata(item.metadata) for item in items]
        return encode_items(rids, [item.id for item in items], bodies)

    def by_id(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return the items of these ids; unknown ones are omitted."""
        return {item.id: item for item in self._items("id", ids)}

    def items(self, after: int = 0, limit: int | None = None, step: int = 1) -> Iterator[Item]:
        """Yield the items in the order of their rids, read in pages.

        With `step`, about one in `step` items, spread over the collection and deterministic: rids
        are scrambled first, since a corpus may have the same period as the step.
        """
        left = limit
        while left is None or left > 0:
            page = min(1000, left or 1000)
            rows = self._all(
                "SELECT rid, id, version, metadata, crc FROM items WHERE rid > ?"
                " AND (((rid & 268435455) * 2654435761) >> 16) % ? = 0 ORDER BY rid LIMIT ?",
                (after, step, page),
            )
            for row in rows:
                yield self._item(row)
            if len(rows) < page:
                return
            after = rows[-1][0]
            left = None if left is None else left - page

    def versions(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the versions of these ids, for repeated builds; unknown ones are omitted."""
        found: dict[str, str] = {}
        for start in range(0, len(ids), CHUNK):
            chunk = list(ids[start : start + CHUNK])
            marks = ",".join("?" * len(chunk))
            found |= self._all(f"SELECT id, version FROM items WHERE id IN ({marks})", chunk)
        return found

    def ids(self, before: int) -> Iterator[list[str]]:
        """Yield the ids of rids lower than `before` in pages, in the order of their rids."""
        for page in self._pages("SELECT rid, id FROM items WHERE rid > ?", 0):
            yield [name for rid, name in page if rid < before]
            if page[-1][0] >= before:
                return

    def delta_embedding(self, rid: int) -> Floats | None:
        """Return the embedding of a delta row, or None if the row is in a segment."""
        if not (rows := self._all("SELECT embedding, crc FROM delta WHERE rid = ?", (rid,))):
            return None
        self._check(rows[0][1], rid, rows[0][0])
        return np.frombuffer(rows[0][0], dtype=np.float16).astype(np.float32)

    def note(self, key: str) -> bytes | None:
        """Return a named value stored with the collection, such as a sample of queries."""
        rows = self._all("SELECT body, crc FROM notes WHERE key = ?", (key,))
        if not rows:
            return None
        self._check(rows[0][1], key, rows[0][0])
        return bytes(rows[0][0])

    def extensions(self) -> dict[str, Any]:
        """Return the named additions; readers ignore those they do not know."""
        body = self.note(EXTENSIONS_NOTE)
        found: dict[str, Any] = json.loads(body) if body else {}
        return found

    def verify(self) -> Rids:
        """Read every row and every page; raise at the first damage. Return the rids, ascending."""
        rids = [np.empty(0, np.int64)]
        with self.reading():
            answer = self._one("PRAGMA integrity_check")[0]
            if answer != "ok":
                raise CollectionError(f"{self.path} is damaged: {answer}")
            self.changes(0, 0, with_segments=True)
            for key, body, crc in self._all("SELECT key, body, crc FROM notes"):
                self._check(crc, key, body)
            for page in self._pages(
                "SELECT rid, id, version, metadata, crc FROM items WHERE rid > ?", 0
            ):
                for *fields, crc in page:
                    self._check(crc, *fields)
                rids.append(np.array([row[0] for row in page], dtype=np.int64))
        return np.concatenate(rids)

    # --- writing ---------------------------------------------------------------------------

    @contextmanager
    def blocking_commits(self) -> Iterator[None]:
        """Block commits of other threads through this connection."""
        with self._lock:
            yield

    @contextmanager
    def writing(self, *, new_generation: bool = False) -> Iterator[Transaction]:
        """Commit the changes inside durably and atomically, or none of them."""
        with self._lock:
            self._execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self._db, self.raw_head())
                yield transaction
                epoch = transaction.finish(new_generation)
                self._execute("COMMIT")
                if self._ledger is not None:
                    self._ledger.record(epoch)
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # --- private ---------------------------------------------------------------------------

    def _promise_record(self) -> None:
        """Mark in a catalog of an older version that its commits are now recorded."""
        if RECORD_PROMISE not in self.extensions():
            with self.writing() as transaction:
                transaction.extend(RECORD_PROMISE, 1)

    def _items(self, column: str, keys: Sequence[Any]) -> Iterator[Item]:
        for start in range(0, len(keys), CHUNK):
            chunk = list(keys[start : start + CHUNK])
            marks = ",".join("?" * len(chunk))
            for row in self._all(
                f"SELECT rid, id, version, metadata, crc FROM items WHERE {column} IN ({marks})",
                chunk,
            ):
                yield self._item(row)

    def _item(self, row: Sequence[Any]) -> Item:
        rid, name, version, metadata, crc = row
        if crc != item_checksum(rid, name, version, metadata):
            self._check(crc, *row[:4])  # raises
        return Item(rid, name, version, orjson.loads(metadata))

    def _check(self, crc: int, *fields: Any) -> None:
        if crc != checksum(*fields):
            raise CollectionError(
                f"{self.path} is damaged: a row does not match its checksum ({fields[0]!r});"
                " restore the collection from a copy, or build it again"
            )


def _rows(blobs: list[bytes], dim: int) -> Floats:
    joined = np.frombuffer(b"".join(blobs), dtype=np.float16)
    return joined.reshape(len(blobs), dim).astype(np.float32)
