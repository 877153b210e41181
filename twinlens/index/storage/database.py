"""Opens SQLite for a catalog: durable, with a busy timeout, read-only where required."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from twinlens.errors import CollectionError

CATALOG_NAME = "catalog.sqlite"
BUSY_SECONDS = 10.0


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open SQLite; in a folder without write permission, as immutable."""
    mode = "rw" if write else "ro"
    if not write and not os.access(path.parent, os.W_OK) and not _has_log(path):
        mode = "ro&immutable=1"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    try:
        db = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
        )
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA cache_size=-16384")
        # Truncate the log when it restarts, so that it has no frames of an earlier cycle.
        db.execute("PRAGMA journal_size_limit=0")
        db.execute("SELECT one FROM head").fetchone()
    except sqlite3.DatabaseError as error:
        raise CollectionError(f"{path} cannot be opened: {error}") from error
    return db


def count_frames(db: sqlite3.Connection) -> int:
    """Return the number of committed frames in the log, 0 without one; checkpoints what it can."""
    return max(0, int(db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]))


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0
