"""Finds the pairs of rows that are close: by comparing all of them, or through the index.

Identical rows are found first, so that thousands of copies of one image are no thousands of
neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from twinlens.index.snapshot import Snapshot
from twinlens.index.vectors.arrays import Floats, Halves, Rids, RowNumbers, as_float32

EXACT_ROWS = 50_000  # compared with each other; of more, the index returns the nearest
NEAREST = 32  # neighbours of a row, at most
BLOCK = 1024


def group_identical(rows: Halves) -> tuple[RowNumbers, RowNumbers]:
    """Return the first row of each distinct embedding, and for each row the number of its own."""
    if not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    whole = np.ascontiguousarray(rows)
    keys = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1]))).ravel()
    _, first, owner = np.unique(keys, return_index=True, return_inverse=True)
    return first.astype(np.int64), owner.astype(np.int64)


def find_pairs(
    snapshot: Snapshot, rids: Rids, rows: Halves, similarity: float
) -> Iterator[tuple[int, int, float]]:
    """Yield (i, j, cosine) with i < j of the rows that are at least this similar.

    `rids` are ascending. A row has at most `NEAREST` neighbours.
    """
    seen: set[tuple[int, int]] = set()
    for start, found, cosines in find_nearest(snapshot, rids, rows, NEAREST):
        for place, row in zip(*np.nonzero(cosines >= similarity), strict=True):
            first, second = int(start + place), int(found[place, row])
            pair = (min(first, second), max(first, second))
            if first != second and second >= 0 and pair not in seen:
                seen.add(pair)
                yield *pair, float(cosines[place, row])


def find_nearest(
    snapshot: Snapshot, rids: Rids, rows: Halves, count: int
) -> Iterator[tuple[int, RowNumbers, Floats]]:
    """Yield by blocks: the first row, and the `count` nearest rows of each, itself among them.

    Up to `EXACT_ROWS` rows are compared with each other; of more, the index returns the nearest.
    Unknown neighbours are -1.
    """
    for start in range(0, len(rows), BLOCK):
        block = as_float32(rows[start : start + BLOCK])
        if len(rows) <= EXACT_ROWS:
            yield start, *_compare(block, rows, count)
        else:
            yield start, *_ask(snapshot, block, rids, count)


def _compare(block: Floats, rows: Halves, count: int) -> tuple[RowNumbers, Floats]:
    cosines = np.concatenate(
        [block @ as_float32(rows[at : at + 8 * BLOCK]).T for at in range(0, len(rows), 8 * BLOCK)],
        axis=1,
    )
    if cosines.shape[1] <= count:
        return np.broadcast_to(np.arange(cosines.shape[1]), cosines.shape), cosines
    found = np.argpartition(cosines, -count, axis=1)[:, -count:]
    return found, np.take_along_axis(cosines, found, 1)


def _ask(snapshot: Snapshot, block: Floats, rids: Rids, count: int) -> tuple[RowNumbers, Floats]:
    cosines, found = snapshot.search(block, count)
    places = np.minimum(np.searchsorted(rids, found), len(rids) - 1)
    return np.where(rids[places] == found, places, -1), cosines
