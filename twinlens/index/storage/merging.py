"""Writes the live rows of segments as new segments, in the order of their rids.

Rows, columns and items are copied from the segments, whose hashes are checked first; the catalog is
read only for items of segments that older versions wrote. Each new segment is written by itself, so
that the memory it takes is that of its own rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinlens.index.storage import compaction
from twinlens.index.storage.column_build import join_columns
from twinlens.index.storage.columns import Columns
from twinlens.index.storage.item_file import ItemRecords
from twinlens.index.storage.records import SegmentRow
from twinlens.index.storage.segment import Content, Segment, write_segment
from twinlens.index.vectors.arrays import Halves, Rids, RowNumbers

BLOCK = 4096
Places = npt.NDArray[np.int32]


class _LiveRows:
    """The live rows of segments in the order of their rids: which segment, and where in it."""

    def __init__(
        self, segments: Sequence[Segment], tombstones: Rids, read: Callable[[Rids], ItemRecords]
    ) -> None:
        self.segments = segments
        self._read = read
        places = [
            np.flatnonzero(~np.isin(one.rids, tombstones)).astype(np.int32) for one in segments
        ]
        counts = [len(one) for one in places]
        self.rids: Rids = np.concatenate(
            [one.rids[place] for one, place in zip(segments, places, strict=True)]
        )
        self.owner: Places = np.repeat(np.arange(len(segments), dtype=np.int32), counts)
        self.place: Places = np.concatenate(places)
        if np.any(self.rids[1:] < self.rids[:-1]):
            order = np.argsort(self.rids, kind="stable")
            self.rids, self.owner = self.rids[order], self.owner[order]
            self.place = self.place[order]

    def content(self, chosen: slice) -> Content:
        """Return some of the rows as the content of a segment."""
        dim = self.segments[0].embeddings.shape[1]
        return Content(
            self.rids[chosen],
            dim,
            lambda: self._blocks(chosen),
            lambda: self._columns(chosen),
            lambda: self._items(chosen),
        )

    def _blocks(self, chosen: slice) -> Iterator[Halves]:
        owner, place = self.owner[chosen], self.place[chosen]
        for start in range(0, len(owner), BLOCK):
            owners, places = owner[start : start + BLOCK], place[start : start + BLOCK]
            dim = self.segments[0].embeddings.shape[1]
            block = np.empty((len(owners), dim), dtype=np.float16)
            for number in np.unique(owners):
                here = owners == number
                block[here] = self.segments[number].embeddings[places[here]]
            yield block

    def _items(self, chosen: slice) -> Iterator[ItemRecords]:
        """Yield the records of runs of rows that are neighbours in one segment."""
        owner = self.owner[chosen]
        cuts = np.flatnonzero(np.diff(owner)) + 1 + chosen.start
        ends = [chosen.start, *cuts.tolist(), chosen.start + len(owner)]
        for low, high in itertools.pairwise(ends):
            for start in range(low, high, BLOCK):
                part = slice(start, min(high, start + BLOCK))
                segment = self.segments[int(self.owner[start])]
                yield segment.item_records(self.place[part].astype(np.int64)) or self._read(
                    self.rids[part]
                )

    def _columns(self, chosen: slice) -> Columns:
        owner, place = self.owner[chosen], self.place[chosen]
        parts = []
        for number, segment in enumerate(self.segments):
            here = np.flatnonzero(owner == number)
            numbers: RowNumbers = np.full(len(segment), -1, dtype=np.int64)
            numbers[place[here]] = here
            if len(here):
                parts.append((segment.read_columns(), numbers))
        return join_columns(parts, len(owner))


def write_merged(
    root: Path,
    rows: Sequence[SegmentRow],
    dim: int,
    tombstones: Rids,
    read: Callable[[Rids], ItemRecords],
) -> list[SegmentRow]:
    """Publish segments with the live rows of others, as few as may hold them.

    `read` returns the records of items whose segment does not have them.
    """
    segments = [Segment(root, row, dim) for row in rows]
    for segment in segments:
        segment.verify()  # never copy a damaged row into a file with a new hash
    live = _LiveRows(segments, tombstones, read)
    count = -(-len(live.rids) // compaction.SEGMENT_ROWS)
    ends = [round(len(live.rids) * part / max(1, count)) for part in range(count + 1)]
    return [
        write_segment(root, live.content(slice(low, high)))
        for low, high in itertools.pairwise(ends)
    ]


def count_live(root: Path, row: SegmentRow, dim: int, tombstones: Rids) -> int:
    """Return how many rows of a segment are not deleted."""
    places = Segment(root, row, dim).place_of(tombstones)
    return row.rows - int(np.count_nonzero(places >= 0))
