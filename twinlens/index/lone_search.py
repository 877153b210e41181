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

RankedItems = tuple[
    tuple[float, ...], list[Any], tuple[int, ...]
]  # scores, items, and rows if asked
_ID, _METADATA = itemgetter(0), itemgetter(1)


class LoneSearch:
    """Searches one snapshot for one query at a time; thread-safe."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._parts = snapshot.parts if _is_plain(snapshot) else ()
        self._only = self._parts[0] if len(self._parts) == 1 else None

    def search(self, query: Floats, k: int, threshold: float | None) -> HitLists | None:
        """Return the k best items of a unit query (1, d), or None if only the long way can."""
        if k > MOST or not self._parts:
            return None
        part = self._only
        if part is None:
            found = self._merge(query, k)
        else:  # `_ask`, written out: each further call takes two microseconds here
            table, ann_index = part.segment.row_table, part.ann_index
            if table is None or ann_index is None:
                return None
            candidates = ann_index.propose(query, k, part.live)
            found = None if candidates is None else table.answer(query, candidates, k)
        if found is None:
            return None
        hits = Hits(map(Hit, map(_ID, found[1]), found[0], map(_METADATA, found[1])))
        if threshold is not None:
            hits = Hits(hit for hit in hits if hit.score >= threshold)
        return HitLists((hits,))

    def _merge(self, query: Floats, k: int) -> RankedItems | None:
        """Return the best of all segments; ties go to the smaller rid, as everywhere."""
        merged: list[tuple[float, int, Any]] = []
        for part in self._parts:
            if (found := _ask(part, query, k)) is None:
                return None
            rids = part.segment.rids.take(found[2]).tolist()
            merged += zip([-score for score in found[0]], rids, found[1], strict=True)
        merged.sort(key=lambda one: one[:2])
        return tuple(-one[0] for one in merged[:k]), [one[2] for one in merged[:k]], ()


def _ask(part: SegmentView, query: Floats, k: int) -> RankedItems | None:
    """Return scores, items and rows of a segment's k best live rows."""
    table = part.segment.row_table
    if table is None or part.ann_index is None:
        return None
    candidates = part.ann_index.propose(query, k, part.live)
    return None if candidates is None else table.answer(query, candidates, k, with_rows=True)


def _is_plain(snapshot: Snapshot) -> bool:
    """Return whether every row is in a segment whose index answers as it was measured."""
    return not snapshot.delta.count and all(
        part.asks_index(part.live_count, exact=False) and not part.is_stale
        for part in snapshot.parts
    )
