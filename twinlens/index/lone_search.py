"""The short way of one query without a filter: from candidates to hits in one call of C a segment.

What is the same for all searches of a snapshot is decided once. Must stay true: the hits are those
of `Snapshot.search`, or there are none, and then that has to answer: while files are unchecked,
with rows that are in no segment, where an index is missing, stale or damaged.
"""

from __future__ import annotations

from typing import Any

from twinlens.index.hits import Hit, HitLists
from twinlens.index.snapshot import SegmentView, Snapshot
from twinlens.index.vectors.arrays import Floats
from twinlens.index.vectors.native_rescoring import MOST


class LoneSearch:
    """Searches one snapshot for one query at a time; thread-safe."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._parts = snapshot.parts if _is_plain(snapshot) else ()

    def search(self, query: Floats, k: int, threshold: float | None) -> HitLists | None:
        """Return the k best items of a unit query (1, d), or None if only the long way can."""
        if k > MOST or not self._parts:
            return None
        if len(self._parts) == 1:
            if (alone := _ask(self._parts[0], query, k)) is None:
                return None
            scores, _, items = alone
        else:
            if (merged := self._merge(query, k)) is None:
                return None
            scores, items = merged
        hits = [Hit(item[0], score, item[1]) for score, item in zip(scores, items, strict=True)]
        if threshold is not None:
            hits = [hit for hit in hits if hit.score >= threshold]
        return HitLists((hits,))

    def _merge(self, query: Floats, k: int) -> tuple[tuple[float, ...], list[Any]] | None:
        """Return the best of all segments; ties go to the smaller rid, as everywhere."""
        merged: list[tuple[float, int, Any]] = []
        for part in self._parts:
            found = _ask(part, query, k)
            if found is None:
                return None
            rids = part.segment.rids.take(found[1]).tolist()
            merged += zip([-score for score in found[0]], rids, found[2], strict=True)
        merged.sort(key=lambda one: one[:2])
        return tuple(-one[0] for one in merged[:k]), [one[2] for one in merged[:k]]


def _ask(
    part: SegmentView, query: Floats, k: int
) -> tuple[tuple[float, ...], tuple[int, ...], list[Any]] | None:
    """Return scores, rows and items of a segment's k best live rows."""
    table = part.segment.row_table()
    if table is None or part.ann_index is None:
        return None
    candidates = part.ann_index.propose(query, k, part.live)
    return None if candidates is None else table.answer(query, candidates, k)


def _is_plain(snapshot: Snapshot) -> bool:
    """Return whether every row is in a segment whose index answers as it was measured."""
    return not snapshot.delta.count and all(
        part.asks_index(part.live_count, exact=False) and not part.is_stale
        for part in snapshot.parts
    )
