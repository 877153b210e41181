"""Opens SQLite for a catalog: durable, with a busy timeout, read-only where required."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinlens.errors import CollectionError

CATALOG_NAME = "catalog.sqlite"
BUSY_SECONDS = 10.0
PAGE = 4096  # rows that are read at a time


class Database:
    """One thread-safe connection; its errors name the file."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._db = connect(path, write=write)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Run the reads inside in one transaction."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._execute("BEGIN")
            try:
                yield
            finally:
                self._execute("COMMIT")

    def _pages(self, sql: str, after: int) -> Iterator[list[Any]]:
        """Yield the rows of a query in pages, in the order of its first column."""
        while page := self._all(f"{sql} ORDER BY 1 LIMIT {PAGE}", (after,)):
            yield page
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def _one(self, sql: str) -> Any:
        if rows := self._all(sql):
            return rows[0]
        raise CollectionError(f"{self.path} is damaged: {sql!r} found nothing")

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            cursor = self._execute(sql, values)
            try:
                return cursor.fetchall()
            except sqlite3.DatabaseError as error:
                raise self._explain(error) from error

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.DatabaseError) -> CollectionError:
        return CollectionError(f"{self.path}: {error}")


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
