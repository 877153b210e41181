"""Thumbnails of items, cached in a bounded file beside the collection.

A lost thumbnail is created again from the image, if that still exists.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

from twinlens.bundle.image.thumbnail import SIDE, make_thumbnail
from twinlens.index.ingest.corpus import read_path
from twinlens.index.ingest.item_files import find_file
from twinlens.index.storage.records import Item

THUMBNAILS_NAME = "thumbnails.sqlite"
PREVIEWS_NAME = "previews.sqlite"
MAX_BYTES = 256 << 20
PREVIEW_BYTES = 4 << 30
PREVIEW_SIDE = 1600


class ThumbnailStore:
    """Thumbnails by id and version, or larger previews of the same kind."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int = MAX_BYTES,
        *,
        name: str = THUMBNAILS_NAME,
        side: int = SIDE,
    ) -> None:
        place = folder / name if os.access(folder, os.W_OK) else ":memory:"
        self._side = side
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self.hits = self.created = 0  # requests answered from the cache; thumbnails created
        self._db = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # a cache may be lost in a crash
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS thumbnails"
            "(id TEXT PRIMARY KEY, version TEXT NOT NULL, image BLOB NOT NULL)"
        )
        self._bytes = int(
            self._db.execute("SELECT coalesce(sum(length(image)), 0) FROM thumbnails").fetchone()[0]
        )

    def get(self, item: Item) -> bytes | None:
        """Return an item's thumbnail, created now if its image can be read, or None."""
        kept = self.find(item)
        if kept is not None:
            return kept
        path = find_file(item)
        if path is None:
            return None
        try:
            raw = read_path(path)
        except OSError:
            return None
        return self.put(item.id, item.version, raw)

    def __contains__(self, item: Item) -> bool:
        """Return whether an item's thumbnail is kept here."""
        return self.find(item) is not None

    def find(self, item: Item) -> bytes | None:
        """Return an item's thumbnail if it is kept here, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT image FROM thumbnails WHERE id = ? AND version = ?", (item.id, item.version)
            ).fetchone()
            self.hits += row is not None
        return None if row is None else bytes(row[0])

    def put(self, id: str, version: str, image: bytes) -> bytes:
        """Create and store the thumbnail of an image; raise `ImageError` if it is invalid."""
        small = make_thumbnail(image, self._side)
        with self._lock:
            self.created += 1
            self._forget(id)
            self._db.execute("INSERT INTO thumbnails VALUES (?, ?, ?)", (id, version, small))
            self._bytes += len(small)
            while self._bytes > self._max_bytes:
                oldest = self._db.execute(
                    "SELECT id FROM thumbnails ORDER BY rowid LIMIT 1"
                ).fetchone()
                self._forget(oldest[0])
        return small

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()

    def _forget(self, id: str) -> None:
        row = self._db.execute(
            "DELETE FROM thumbnails WHERE id = ? RETURNING length(image)", (id,)
        ).fetchone()
        self._bytes -= row[0] if row else 0
