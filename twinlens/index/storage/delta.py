"""The rows that are not in a segment yet, in memory: searched exactly, cheap to append to.

A `Delta` is immutable: its buffer only grows past its end, and the flags of live rows are copied
when one is deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twinlens.index.query.filters import Filter
from twinlens.index.storage.column_build import build_columns
from twinlens.index.storage.columns import Columns
from twinlens.index.vectors.arrays import Floats, Mask, Rids

CHUNK = 512  # rows of metadata converted to columns at a time


class _Buffer:
    """Storage shared by deltas; rows are only written past the end of all of them."""

    def __init__(self, dim: int, capacity: int = 64) -> None:
        self.embeddings = np.zeros((capacity, dim), dtype=np.float32)
        self.rids = np.zeros(capacity, dtype=np.int64)
        self.metadata: list[Mapping[str, Any]] = []
        self.columns: list[Columns] = []  # of full chunks only
        self.lock = threading.Lock()


@dataclass(frozen=True)
class Delta:
    """One state of the delta."""

    buffer: _Buffer
    count: int
    live: Mask

    @staticmethod
    def empty(dim: int) -> Delta:
        """Return a delta without rows."""
        return Delta(_Buffer(dim), 0, np.zeros(0, dtype=bool))

    @property
    def rids(self) -> Rids:
        """The rids of all rows, including deleted ones."""
        return self.buffer.rids[: self.count]

    @property
    def embeddings(self) -> Floats:
        """The embeddings of all rows, including deleted ones."""
        return self.buffer.embeddings[: self.count]

    def extend(self, rids: Rids, embeddings: Floats, metadata: list[dict[str, Any]]) -> Delta:
        """Return a delta with these rows appended."""
        if not len(rids):
            return self
        end = self.count + len(rids)
        buffer = self._room(end)
        buffer.embeddings[self.count : end] = embeddings
        buffer.rids[self.count : end] = rids
        buffer.metadata.extend(metadata)
        live = np.concatenate([self.live, np.ones(len(rids), dtype=bool)])
        return Delta(buffer, end, live)

    def with_deleted(self, rids: Rids) -> Delta:
        """Return a delta in which the rows of these rids are deleted."""
        dead = np.isin(self.rids, rids)
        return replace(self, live=self.live & ~dead) if dead.any() else self

    def select(self, tree: Filter) -> Mask:
        """Return one flag per row: whether it satisfies the filter."""
        return np.concatenate([part.select(tree) for part in self.read_columns()])

    def fields(self) -> set[str]:
        """Return the metadata fields that any row has."""
        return set[str]().union(*(part.fields for part in self.read_columns()))

    def read_columns(self) -> list[Columns]:
        """Return the metadata in columns, chunk by chunk; full chunks are built once."""
        buffer, full = self.buffer, self.count // CHUNK
        with buffer.lock:
            while len(buffer.columns) < full:
                start = len(buffer.columns) * CHUNK
                buffer.columns.append(build_columns(buffer.metadata[start : start + CHUNK]))
        rest = build_columns(buffer.metadata[full * CHUNK : self.count])
        return [*buffer.columns[:full], rest]

    def _room(self, end: int) -> _Buffer:
        """Return a buffer with space up to `end`; the same one if it is free past the last row."""
        old = self.buffer
        if len(old.metadata) == self.count and end <= len(old.rids):
            return old
        new = _Buffer(old.embeddings.shape[1], max(64, 2 * end))
        new.embeddings[: self.count] = old.embeddings[: self.count]
        new.rids[: self.count] = old.rids[: self.count]
        new.metadata = old.metadata[: self.count]
        new.columns = list(old.columns[: self.count // CHUNK])
        return new
