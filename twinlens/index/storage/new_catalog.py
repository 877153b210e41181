"""Creates an empty catalog: its tables, and the rows that every catalog has."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from twinlens.index.storage.commit_record import CommitLedger
from twinlens.index.storage.database import CATALOG_NAME
from twinlens.index.storage.records import Head, checksum
from twinlens.index.storage.transaction import EXTENSIONS_NOTE, RECORD_PROMISE

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
