"""Which segments a compaction rewrites, so that a few changes never rewrite a large collection.

A segment is rewritten for its deleted rows only above `DEAD_SHARE` of them, so at most four rows
are written for each deleted one. It is joined only with smaller ones that have at least
`OUTSIDE_SHARE` of the rows together, so a row that is moved comes into a segment at least a third
larger. Segments under `SMALL_ROWS` without an index are exempt. What is written has at most
`SEGMENT_ROWS` rows, which also bounds the memory that it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinlens.index.storage.item_file import ITEMS_NAME
from twinlens.index.storage.records import SegmentRow

SEGMENT_ROWS = 1 << 22
SMALL_ROWS = 65_536
DEAD_SHARE = 0.2
OUTSIDE_SHARE = 0.25


@dataclass(frozen=True)
class SegmentState:
    """A segment and the number of its rows that are not deleted."""

    row: SegmentRow
    live: int

    @property
    def dead(self) -> int:
        """The number of deleted rows."""
        return self.row.rows - self.live

    @property
    def is_cheap(self) -> bool:
        """Whether rewriting it takes less than a second, and no index has to be built again."""
        return self.row.rows < SMALL_ROWS and self.row.index is None


def plan_merges(states: Sequence[SegmentState], *, full: bool = False) -> list[list[SegmentRow]]:
    """Return the groups of segments to be written anew, one after the other, each as one segment.

    With `full`, no deleted row is left, and segments are as few as they can be.
    """
    groups: list[list[SegmentState]] = []
    total = 0
    for one in sorted(states, key=lambda state: (state.live, state.row.name)):
        if groups and _joins(one, total, full):
            groups[-1].append(one)
            total += one.live
        else:
            groups.append([one])
            total = one.live
    return [
        [one.row for one in group]
        for group in groups
        if len(group) > 1 or _is_worse(group[0], full)
    ]


def has_many_dead(one: SegmentState) -> bool:
    """Return whether a segment is rewritten for its deleted rows."""
    return one.dead > (0 if one.is_cheap else DEAD_SHARE * one.row.rows)


def _is_worse(one: SegmentState, full: bool) -> bool:
    """Return whether a segment is rewritten alone."""
    if not full:
        return has_many_dead(one)
    return bool(one.dead) or one.row.rows > SEGMENT_ROWS or ITEMS_NAME not in one.row.files


def _joins(one: SegmentState, smaller: int, full: bool) -> bool:
    """Return whether a segment is joined with smaller ones of so many rows in all."""
    if smaller + one.live > SEGMENT_ROWS:
        return False
    return full or one.is_cheap or smaller >= OUTSIDE_SHARE * (smaller + one.live)
