"""Inverted lists at 4 bits per dimension (RaBitQ), for searches without a filter.

The library takes no selector. Deleted rows are therefore proposed and dropped, and more rows are
asked for until enough are left, as good as a search that skips them. A search changes nothing, so
any number of threads may search.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.vectors.arrays import Floats, Mask, RowNumbers
from twinlens.index.vectors.rabitq_setup import load_rabitqlib

LISTS_NAME = "lists.rabitq"
BITS = 4
LEAST_DIM = 64  # the library's rotation needs as many; fewer are padded with zeros
BLOCK = 65_536
MARGIN = 1.1  # of the rows asked for, over the expected share of deleted ones


class RabitqLists:
    """Rows as 4-bit codes of their difference from the mean of their list."""

    name = "RaBitQ of 4 bits"

    def __init__(self, index: Any) -> None:
        self._index = index
        self.count = int(index.num_points)
        self.list_count = int(index.num_clusters)
        self._dim = int(index.dim)

    @staticmethod
    def build(
        block: Callable[[slice], Floats], centres: Floats, list_of_row: npt.NDArray[np.integer]
    ) -> RabitqLists:
        """Encode rows, which `block` returns in the space of `centres` (lists, d), by slices.

        Lists are found and rows encoded by the means of lists. FAISS's centres have length 1, and
        rows do not: their differences from those would need a third more time at equal recall.
        """
        count, (lists, dim) = len(list_of_row), centres.shape
        centres = find_means(block, centres, list_of_row)
        wide = max(LEAST_DIM, dim)
        owners = list_of_row.astype(np.uint32)
        first = slice(0, min(BLOCK, count))
        index = load_rabitqlib().IvfIndex(
            wide, first.stop, lists, BITS, metric="ip", initializer="flat_rabitq"
        )
        index.build(_pad(block(first), wide), _pad(centres, wide), owners[first], 1, True)
        if count > BLOCK:  # without room, each further block would copy every list
            for number, size in enumerate(np.bincount(owners, minlength=lists).tolist()):
                index.reserve(number, size)
        for start in range(BLOCK, count, BLOCK):
            part = slice(start, min(start + BLOCK, count))
            index.add(_pad(block(part), wide), owners[part], 1, True)
        return RabitqLists(index)

    @staticmethod
    def load(path: Path) -> RabitqLists:
        """Read lists whose bytes were checked; they stay in memory."""
        return RabitqLists(load_rabitqlib().IvfIndex.load(str(path)))

    def save(self, path: Path) -> None:
        """Write the lists."""
        self._index.save(str(path))

    def search(
        self, queries: Floats, count: int, probe: int, allowed: Mask | None = None
    ) -> RowNumbers:
        """Return up to `count` allowed rows of the nearest lists per query, best first, then -1."""
        count = min(count, self.count)
        if allowed is None:
            return self._ask(queries, count, probe)
        kept = max(1, int(np.count_nonzero(allowed)))
        asked = min(self.count, int(MARGIN * count * self.count / kept) + 1)
        while True:
            places = self._ask(queries, asked, probe)
            fits = (places >= 0) & allowed[places]
            has_more = (fits.sum(axis=1) < count) & (places[:, -1] >= 0)
            if asked == self.count or not has_more.any():
                return _first(places, fits, count)
            asked = min(self.count, 2 * asked)

    def ask(self, queries: Floats, count: int, probe: int) -> npt.NDArray[np.uint32]:
        """Return `count` rows of the nearest lists per query as the library does.

        No row is the largest number.
        """
        if self._dim != queries.shape[1]:
            queries = _pad(queries, self._dim)
        # Tables of 8 bits, not 16: a tenth cheaper, with the same candidates.
        found: npt.NDArray[np.uint32] = self._index.search(queries, count, probe, False)[0]
        return found

    def _ask(self, queries: Floats, count: int, probe: int) -> RowNumbers:
        return self.ask(queries, count, probe).view(np.int32).astype(np.int64)


def find_means(
    block: Callable[[slice], Floats], centres: Floats, list_of_row: npt.NDArray[np.integer]
) -> Floats:
    """Return the mean of each list's rows; of an empty list its centre."""
    sums = np.zeros(centres.shape)
    for start in range(0, len(list_of_row), BLOCK):
        part = slice(start, start + BLOCK)
        order = np.argsort(list_of_row[part], kind="stable")
        lists, first = np.unique(list_of_row[part][order], return_index=True)
        sums[lists] += np.add.reduceat(block(part)[order], first, axis=0)
    counts = np.bincount(list_of_row, minlength=len(centres))[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), centres).astype(np.float32)


def _first(places: RowNumbers, fits: npt.NDArray[np.bool_], count: int) -> RowNumbers:
    """Return the first `count` places that fit in each row, then -1."""
    order = np.argsort(~fits, axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(places, order, 1)
    return np.where(np.take_along_axis(fits, order, 1), chosen, -1)


def _pad(rows: Floats, dim: int) -> Floats:
    return rows if rows.shape[1] == dim else np.pad(rows, ((0, 0), (0, dim - rows.shape[1])))
