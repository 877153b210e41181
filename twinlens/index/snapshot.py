"""One immutable state of a collection, which a search uses from start to end.

Segments are searched through their index where that is faster, and exactly otherwise; the delta
always exactly. Filters and tombstones restrict the rows before the search, never its results.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from twinlens.errors import InputError
from twinlens.index.ann.ann_index import AnnIndex, reopen_index
from twinlens.index.ann.answers import STALE_SHARE
from twinlens.index.ann.filtered_params import choose_params
from twinlens.index.ann.recall import RecallReport
from twinlens.index.query.filters import Filter, compared_fields
from twinlens.index.storage.columns import Columns
from twinlens.index.storage.delta import Delta
from twinlens.index.storage.records import Changes, Head, ShownItem
from twinlens.index.storage.segment import Segment
from twinlens.index.vectors.arrays import Floats, Halves, Mask, Rids, RowNumbers
from twinlens.index.vectors.exact import best, top_k
from twinlens.index.vectors.gpu import copy_rows

SHOWN_FIELDS = 30
EXACT_SHARE = 0.02  # of a segment's rows: narrower filters are searched exactly
CHECK_AFTER = 50  # searches of one reader, after which the rest is checked in the background
EXACT_ROWS = 2048  # rows, which are searched exactly whatever their share

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentView:
    """A segment as seen by one snapshot."""

    segment: Segment
    live: Mask | None  # None: all rows live
    ann_index: AnnIndex | None
    resident: bool  # whether to keep its rows in memory as float32

    @functools.cached_property
    def live_count(self) -> int:
        """The number of live rows."""
        return len(self.segment) if self.live is None else int(np.count_nonzero(self.live))

    @functools.cached_property
    def lost_shares(self) -> dict[str, float]:
        """The share of measured answers that are deleted, by modality."""
        if self.ann_index is None:
            return {}
        if self.live is None:
            return dict.fromkeys(self.ann_index.tuning.recall, 0.0)
        return self.ann_index.lost_shares(self.live)

    @property
    def is_stale(self) -> bool:
        """Whether deletions changed too much for the measured recall to be reported."""
        return max(self.lost_shares.values(), default=0.0) > STALE_SHARE

    @property
    def is_exact(self) -> bool:
        """Whether an unfiltered search compares every live row."""
        if self.ann_index is None or not self.ann_index.can_answer:
            return True
        if self._is_narrow(self.live_count):
            return True
        share = self.live_count / len(self.segment)
        return self.is_stale and choose_params(self.ann_index.tuning.filtered, share) is None

    def _is_narrow(self, count: int) -> bool:
        return count <= max(EXACT_ROWS, EXACT_SHARE * len(self.segment))

    def with_deleted(self, rids: Rids) -> SegmentView:
        """Return the view without the rows of these rids."""
        places = self.segment.place_of(rids)
        places = places[places >= 0]
        if not len(places):
            return self
        live = np.ones(len(self.segment), dtype=bool) if self.live is None else self.live.copy()
        live[places] = False
        return replace(self, live=live)

    def allowed(self, tree: Filter | None) -> tuple[Mask | None, int]:
        """Return the live rows that satisfy a filter, None if all rows do, and their number."""
        if tree is None:
            return self.live, self.live_count
        chosen = self.segment.select(tree)
        allowed = chosen if self.live is None else chosen & self.live
        return allowed, int(np.count_nonzero(allowed))

    def asks_index(self, count: int, exact: bool) -> bool:
        """Return whether a search of `count` allowed rows asks the index."""
        return self.ann_index is not None and not exact and not self._is_narrow(count)

    def search(
        self, queries: Floats, k: int, tree: Filter | None, exact: bool
    ) -> tuple[Floats, Rids]:
        """Return the k best live rows that satisfy the filter: scores (n, k), rids (n, k)."""
        allowed, count = self.allowed(tree)
        if not count:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if self.live is not None:
            self.segment.verify_rids()  # deleted rows were found by them
        k = min(k, count)
        narrow = self._is_narrow(count)
        found = None
        if self.ann_index is not None and self.asks_index(count, exact):
            # Unmeasured deletions narrow the rows as a filter does.
            filtered = tree is not None or self.is_stale
            found = self.ann_index.search(self.segment, queries, k, allowed, filtered=filtered)
        if found is None and allowed is None and not narrow:
            found = self._search_device(queries, k)
        if found is None:
            found = top_k(queries, self._rows(allowed, narrow), k, allowed)
        return found[0], self.segment.rids_of(found[1])

    def _rows(self, allowed: Mask | None, narrow: bool) -> Floats | Halves:
        """Return the rows for an exact search, of which the allowed ones were checked."""
        if narrow and allowed is not None and self.ann_index is not None:
            # A few scattered rows are read from the mapped file, without copying all into memory.
            self.segment.verify_rows(np.flatnonzero(allowed))
            return self.segment.embeddings
        return self.segment.matrix(self.resident and (not narrow or self.ann_index is None))

    def _search_device(self, queries: Floats, k: int) -> tuple[Floats, RowNumbers] | None:
        """Return the GPU's exact answers, or None if the CPU has to search."""
        device = self.segment.on_device(copy_rows)
        found = None if device is None else device.search(queries, k)
        return None if found is None else best(*found, k)


@dataclass(frozen=True)
class Snapshot:
    """The head, segments and delta that a search uses."""

    head: Head
    parts: tuple[SegmentView, ...]
    delta: Delta
    last_rid: int
    last_seq: int

    def absorb(self, changes: Changes) -> Snapshot:
        """Return the snapshot with new delta rows and tombstones; the segments stay the same.

        New rows of another bundle are left out: they need a snapshot of that bundle's segments.
        """
        if changes.head.bundle_revision != self.head.bundle_revision:
            none = np.empty((0, self.head.dim), np.float32)
            rids = np.empty(0, np.int64)
            changes = replace(changes, rids=rids, ids=[], embeddings=none, metadata=[])
        delta = self.delta.extend(changes.rids, changes.embeddings, changes.metadata)
        parts = self.parts
        if len(changes.tombstones):
            delta = delta.with_deleted(changes.tombstones)
            parts = tuple(part.with_deleted(changes.tombstones) for part in parts)
        return replace(
            self,
            delta=delta,
            parts=parts,
            last_rid=int(changes.rids[-1]) if len(changes.rids) else self.last_rid,
            last_seq=changes.head.last_seq,
        )

    def search(
        self, queries: Floats, k: int, tree: Filter | None = None, *, exact: bool = False
    ) -> tuple[Floats, Rids]:
        """Return the k best rows of each query, best first; missing ones are -inf and -1."""
        found = [part.search(queries, k, tree, exact) for part in self.parts]
        if self.delta.count or not found:
            found.append(self._search_delta(queries, k, tree))
        if len(found) == 1 and found[0][0].shape[1] == k:
            return found[0]  # already sorted
        scores = np.concatenate([one[0] for one in found], axis=1)
        return best(scores, np.concatenate([one[1] for one in found], axis=1), k)

    def warm(self) -> None:
        """Check and load all data that searches use."""
        for part in self.parts:
            part.segment.verify()
            if part.ann_index is not None:
                part.ann_index.warm()
        self.search(np.eye(1, self.head.dim, dtype=np.float32), 1)

    def select(self, tree: Filter | None) -> Iterator[tuple[Rids, Mask]]:
        """Yield the rids of each part with one flag per row: live and satisfying the filter."""
        for part in self.parts:
            live = np.ones(len(part.segment), bool) if part.live is None else part.live
            yield part.segment.rids, live if tree is None else live & part.segment.select(tree)
        if self.delta.count:
            live = self.delta.live
            yield self.delta.rids, live if tree is None else live & self.delta.select(tree)

    def select_columns(self, tree: Filter | None) -> Iterator[tuple[Columns, Mask]]:
        """Yield metadata in columns with one flag per row: live and satisfying the filter."""
        for part, (_, chosen) in zip(self.parts, self.select(tree), strict=False):
            yield part.segment.read_columns(), chosen
        if self.delta.count:
            live = self.delta.live
            chosen = live if tree is None else live & self.delta.select(tree)
            start = 0
            for columns in self.delta.read_columns():
                yield columns, chosen[start : start + columns.count]
                start += columns.count

    def read_items(self, rids: Sequence[int]) -> dict[int, ShownItem]:
        """Return the items of these rids that a segment tells."""
        found = [part.segment.read_items(rids) for part in self.parts if rids]
        return functools.reduce(operator.or_, found, {}) if len(found) != 1 else found[0]

    def embedding(self, rid: int) -> Floats | None:
        """Return the embedding of a live row."""
        wanted = np.array([rid])
        for part in self.parts:
            place = int(part.segment.place_of(wanted)[0])
            if place >= 0:
                part.segment.verify_rids()
                part.segment.verify_rows(np.array([place]))
                row: Floats = part.segment.embeddings[place].astype(np.float32)
                return row
        place = int(np.searchsorted(self.delta.rids, rid))
        if place < self.delta.count and self.delta.rids[place] == rid:
            found: Floats = self.delta.embeddings[place]
            return found
        return None

    def fields(self) -> set[str]:
        """Return the metadata fields that any row has."""
        return self.delta.fields().union(*(part.segment.fields() for part in self.parts))

    def require_fields(self, tree: Filter) -> None:
        """Refuse a filter that compares a field which no item has."""
        known = self.fields()
        unknown = sorted(compared_fields(tree) - known)
        if unknown and self.live_count:
            there = ", ".join(sorted(known)[:SHOWN_FIELDS]) or "none"
            raise InputError(
                f"filter: no item has a field {' or '.join(map(repr, unknown))};"
                f" the fields are: {there}",
                field="filter",
            )

    @property
    def damaged(self) -> bool:
        """Whether an index is damaged, so that its segment is searched exactly."""
        return any(part.ann_index is not None and part.ann_index.damage for part in self.parts)

    @property
    def is_exact(self) -> bool:
        """Whether there is no index that could answer."""
        return not any(part.ann_index and part.ann_index.can_answer for part in self.parts)

    def told_recall(self, modality: str) -> RecallReport | None:
        """Return the recall that a store tells; that of segments is told by them."""
        return None

    @property
    def live_count(self) -> int:
        """The number of items that a search can return."""
        delta = int(np.count_nonzero(self.delta.live))
        return delta + sum(part.live_count for part in self.parts)

    def _search_delta(self, queries: Floats, k: int, tree: Filter | None) -> tuple[Floats, Rids]:
        delta = self.delta
        if not delta.count:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        allowed = delta.live if tree is None else delta.live & delta.select(tree)
        scores, places = top_k(queries, delta.embeddings, min(k, delta.count), allowed)
        return scores, np.where(places < 0, -1, delta.rids[np.maximum(places, 0)])


def open_snapshot(
    folder: Path, changes: Changes, old: Snapshot | None, resident_bytes: int, check: bool
) -> Snapshot:
    """Open a state of a collection; segments and indexes that the old one has open are reused."""
    known = {part.segment.name: part for part in (old.parts if old else ())}
    left, parts = resident_bytes, list[SegmentView]()
    for row in changes.segments:
        part = known.get(row.name)
        segment = part.segment if part else Segment(folder, row, changes.head.dim)
        if check:
            segment.verify()
        size = 4 * changes.head.dim * row.rows
        ann_index = reopen_index(folder, row, part.ann_index if part else None)
        resident = size <= left
        left -= size * resident
        parts.append(SegmentView(segment, None, ann_index, resident))
    empty = Snapshot(changes.head, tuple(parts), Delta.empty(changes.head.dim), 0, 0)
    return empty.absorb(changes)
