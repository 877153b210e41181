"""The short way of one query without a filter: from candidates to hits in one call of C a segment.

What is the same for all searches of a snapshot is decided once. Must stay true: the hits are those
of `Snapshot.search`, or there are none, and then that has to answer: while files are unchecked,
with rows that are in no segment, where an index is missing, stale or damaged.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from twinlens.index.hits import Hit, HitLists, Hits
from twinlens.index.snapshot import SegmentView, Snapshot
from twinlens.index.vectors.arrays import Floats
from twinlens.index.vectors.native_rescoring import MOST

Answers = tuple[tuple[float, ...], list[Any]]  # scores, and an id with metadata for each
_ID, _METADATA = itemgetter(0), itemgetter(1)


class LoneSearch:
    """Searches one snapshot for one query at a time; thread-safe."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._parts = snapshot.parts if _is_plain(snapshot) else ()

    def search(self, query: Floats, k: int, threshold: float | None) -> HitLists | None:
        """Return the k best items of a unit query (1, d), or None if only the long way can."""
        if k > MOST or not self._parts:
            return None
        found = self._one(query, k) if len(self._parts) == 1 else self._merge(query, k)
        if found is None:
            return None
        scores, items = found
        hits = Hits(map(Hit, map(_ID, items), scores, map(_METADATA, items)))
        if threshold is not None:
            hits = Hits(hit for hit in hits if hit.score >= threshold)
        lists = HitLists()
        lists.append(hits)
        return lists

    def _one(self, query: Floats, k: int) -> Answers | None:
        found = _ask(self._parts[0], query, k, with_rows=False)
        return None if found is None else found[:2]

    def _merge(self, query: Floats, k: int) -> Answers | None:
        """Return the best of all segments; ties go to the smaller rid, as everywhere."""
        merged: list[tuple[float, int, Any]] = []
        for part in self._parts:
            if (found := _ask(part, query, k, with_rows=True)) is None:
                return None
            rids = part.segment.rids.take(found[2]).tolist()
            merged += zip([-score for score in found[0]], rids, found[1], strict=True)
        merged.sort(key=lambda one: one[:2])
        return tuple(-one[0] for one in merged[:k]), [one[2] for one in merged[:k]]


def _ask(
    part: SegmentView, query: Floats, k: int, *, with_rows: bool
) -> tuple[tuple[float, ...], list[Any], tuple[int, ...]] | None:
    """Return scores and items of a segment's k best live rows, and if asked for the rows."""
    table = part.segment.row_table()
    if table is None or part.ann_index is None:
        return None
    candidates = part.ann_index.propose(query, k, part.live)
    return None if candidates is None else table.answer(query, candidates, k, with_rows=with_rows)


def _is_plain(snapshot: Snapshot) -> bool:
    """Return whether every row is in a segment whose index answers as it was measured."""
    return not snapshot.delta.count and all(
        part.asks_index(part.live_count, exact=False) and not part.is_stale
        for part in snapshot.parts
    )
