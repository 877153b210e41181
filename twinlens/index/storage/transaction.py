"""The changes of one commit, as the only statements that alter a catalog; and an empty catalog.

Rids are never reused, so a reader only has to remember the last rid and the last tombstone that it
saw.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.index.storage.captions import CaptionWriter
from twinlens.index.storage.column_file import OLD_NAME
from twinlens.index.storage.commit_record import CommitLedger
from twinlens.index.storage.database import CATALOG_NAME
from twinlens.index.storage.records import (
    FORMAT,
    BundleRecord,
    Head,
    SegmentRow,
    checksum,
    dump_metadata,
    head_from,
    segment_body,
)
from twinlens.index.vectors.arrays import Floats, Rids

EXTENSIONS_NOTE = "extensions"
RECORD_PROMISE = "commit_record"  # an extension: `catalog.commits` must exist


_SCHEMA = """
CREATE TABLE head(one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL,
                  crc INTEGER NOT NULL);
CREATE TABLE items(rid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version TEXT NOT NULL,
                   metadata TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE delta(rid INTEGER PRIMARY KEY, embedding BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE tombstones(seq INTEGER PRIMARY KEY, rid INTEGER NOT NULL,
                        crc INTEGER NOT NULL);
CREATE TABLE segments(name TEXT PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE notes(key TEXT PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL);
"""


class Transaction:
    """The changes of one commit."""

    def __init__(self, db: sqlite3.Connection, raw_head: dict[str, Any]) -> None:
        self._db = db
        self._raw_head = raw_head
        self._head = head = head_from(raw_head)
        self._next_rid = head.next_rid
        self._last_seq = head.last_seq
        self._format = head.format
        self.captions = CaptionWriter(db, raw_head)

    def replace_items(
        self, ids: Sequence[str], versions: Sequence[str], metadata: Sequence[dict[str, Any]]
    ) -> Rids:
        """Insert items with new rids, deleting earlier items of the same ids."""
        self.delete_items(ids)
        rids = range(self._next_rid, self._next_rid + len(ids))
        self._next_rid += len(ids)
        bodies = [dump_metadata(one) for one in metadata]
        self._db.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
            [(*row, checksum(*row)) for row in zip(rids, ids, versions, bodies, strict=True)],
        )
        self.captions.insert(rids, metadata)
        return np.arange(rids.start, rids.stop, dtype=np.int64)

    def delete_items(self, ids: Iterable[str]) -> int:
        """Delete the items of these ids; return how many there were."""
        count = 0
        for name in ids:
            row = self._db.execute("SELECT rid FROM items WHERE id = ?", (name,)).fetchone()
            if row is not None:
                self._delete_row(row[0])
                count += 1
        return count

    def restamp(self, versions: Mapping[str, str]) -> None:
        """Change the versions of items, by id; their rids stay."""
        for name, version in versions.items():
            found = self._db.execute("SELECT rid, metadata FROM items WHERE id = ?", (name,))
            for rid, body in found.fetchall():
                crc = checksum(rid, name, version, body)
                self._db.execute(
                    "UPDATE items SET version = ?, crc = ? WHERE rid = ?", (version, crc, rid)
                )

    def insert_delta(self, rids: Rids, embeddings: Floats) -> None:
        """Store the embeddings of new rids in the catalog until they are sealed into a segment."""
        blobs = [row.tobytes() for row in embeddings.astype(np.float16)]
        self._db.executemany(
            "INSERT INTO delta VALUES (?, ?, ?)",
            [
                (rid, blob, checksum(rid, blob))
                for rid, blob in zip(rids.tolist(), blobs, strict=True)
            ],
        )

    def clear_delta(self, last_rid: int) -> None:
        """Delete the delta rows up to `last_rid`: a segment of this transaction holds them."""
        self._db.execute("DELETE FROM delta WHERE rid <= ?", (last_rid,))

    def insert_segment(self, row: SegmentRow) -> None:
        """Make a published folder part of the collection."""
        if OLD_NAME not in row.files:  # readers of format 1 find no columns in it
            self._format = FORMAT
        body = segment_body(row)
        self._db.execute(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?)",
            (row.name, body, checksum(row.name, body)),
        )

    def drop_segment(self, name: str) -> None:
        """Remove a folder from the collection; readers that have it open keep it."""
        self._db.execute("DELETE FROM segments WHERE name = ?", (name,))

    def replace_embeddings(
        self,
        bundle: BundleRecord,
        segments: Iterable[SegmentRow],
        dead: Iterable[int],
        rids: Rids,
        rows: Floats,
    ) -> None:
        """Replace all embeddings by another bundle's; the items and their rids stay.

        `dead` are rids in the segments without an item, `rows` those of items in no segment.
        """
        for table in ("segments", "delta", "tombstones"):
            self._db.execute(f"DELETE FROM {table}")
        for row in segments:
            self.insert_segment(row)
        for rid in dead:
            self._bury(rid)
        self.insert_delta(rids, rows)
        self._head = dataclasses.replace(
            self._head,
            dim=bundle.dim,
            bundle_name=bundle.name,
            bundle_revision=bundle.revision,
            bundle_source=bundle.source,
        )

    def forget_tombstones(self, seqs: Rids) -> None:
        """Drop tombstones by their numbers: no segment holds a row that they delete."""
        self._db.executemany(
            "DELETE FROM tombstones WHERE seq = ?", ((seq,) for seq in seqs.tolist())
        )

    def write_note(self, key: str, body: bytes) -> None:
        """Store a named value with the collection."""
        self._db.execute(
            "INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (key, body, checksum(key, body))
        )

    def extend(self, name: str, value: Any) -> None:
        """Set one extension; all others are kept."""
        row = self._db.execute(
            "SELECT body FROM notes WHERE key = ?", (EXTENSIONS_NOTE,)
        ).fetchone()
        held = json.loads(row[0]) if row else {}
        self.write_note(EXTENSIONS_NOTE, json.dumps({**held, name: value}).encode())

    def finish(self, new_generation: bool) -> int:
        """Advance the head, keeping unknown fields; return the epoch."""
        head = dataclasses.replace(
            self._head,
            epoch=self._head.epoch + 1,
            generation=self._head.generation + int(new_generation),
            next_rid=self._next_rid,
            last_seq=self._last_seq,
            format=self._format,
        )
        body = json.dumps({**self._raw_head, **head.__dict__})
        self._db.execute("UPDATE head SET body = ?, crc = ?", (body, checksum(body)))
        return head.epoch

    def catch_up_captions(self) -> bool:
        """Index a batch of captions that are missing; return whether all are in."""
        return self.captions.catch_up(self._next_rid)

    def _delete_row(self, rid: int) -> None:
        self.captions.delete(rid)
        self._db.execute("DELETE FROM items WHERE rid = ?", (rid,))
        self._db.execute("DELETE FROM delta WHERE rid = ?", (rid,))
        self._bury(rid)

    def _bury(self, rid: int) -> None:
        self._last_seq += 1
        self._db.execute(
            "INSERT INTO tombstones VALUES (?, ?, ?)",
            (self._last_seq, rid, checksum(self._last_seq, rid)),
        )


def create_catalog(folder: Path, head: Head) -> None:
    """Write a new catalog into `folder`."""
    db = sqlite3.connect(folder / CATALOG_NAME, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.executescript(_SCHEMA)
    body = json.dumps(head.__dict__)
    db.execute("INSERT INTO head VALUES (1, ?, ?)", (body, checksum(body)))
    promise = json.dumps({RECORD_PROMISE: 1}).encode()
    note = (EXTENSIONS_NOTE, promise, checksum(EXTENSIONS_NOTE, promise))
    db.execute("INSERT INTO notes VALUES (?, ?, ?)", note)
    db.close()
    CommitLedger(folder, head.epoch).close()
