"""Several data sets mixed by weight: a `.mix` file with a line `WEIGHT PATH` for each.

An epoch has as many images as all data sets together; a weight is the share of them from one set.
Small data with a large weight are repeated within an epoch; large data with a small one last
several epochs.

What must stay true: each set is seen in permutations, so that no image repeats before all others
were seen, across epochs too; the order is a function of the epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from twinlens.errors import InputError
from twinlens.training.data.records import DataSource, Record

MIX = ".mix"


class MixedSource:
    """The records of several sources, one source after another."""

    def __init__(self, path: Path, open_part: Callable[[str], DataSource]) -> None:
        rows = _read_rows(path)
        self.weights = tuple(weight for weight, _ in rows)
        self._parts = [open_part(where) for _, where in rows]
        self.counts = tuple(len(part.records) for part in self._parts)
        self.records: Sequence[Record] = [record for part in self._parts for record in part.records]
        self._starts = [0, *accumulate(self.counts)]

    def read(self, index: int) -> bytes:
        """Return the bytes of image `index`."""
        part = bisect_right(self._starts, index) - 1
        return self._parts[part].read(index - self._starts[part])


def draw_mixture(
    counts: Sequence[int], weights: Sequence[float], seed: int, epoch: int
) -> list[int]:
    """Return the positions of an epoch, in order, over parts with these counts."""
    shares = share_out(sum(counts), weights)
    starts = [0, *accumulate(counts)]
    found: list[int] = []
    for part, (count, share) in enumerate(zip(counts, shares, strict=True)):
        found += [starts[part] + place for place in _draw_part(count, share, seed, epoch, part)]
    shuffled = np.random.default_rng((seed, epoch, 11)).permutation(len(found))
    return [found[place] for place in shuffled.tolist()]


def share_out(total: int, weights: Sequence[float]) -> list[int]:
    """Return how many of `total` each weight gets; the counts sum to `total`."""
    ends = [round(total * end / sum(weights)) for end in accumulate(weights)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _draw_part(count: int, share: int, seed: int, epoch: int, part: int) -> list[int]:
    """Return the next `share` images of a part, from successive permutations of it."""
    found: list[int] = []
    turn, place = divmod(epoch * share, count)
    while len(found) < share:
        order = np.random.default_rng((seed, part, turn, 59)).permutation(count).tolist()
        found += order[place : place + share - len(found)]
        turn, place = turn + 1, 0
    return found


def _read_rows(path: Path) -> list[tuple[float, str]]:
    """Return weights and paths; a path is relative to the file."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text, _, where = line.strip().partition(" ")
        if not text or text.startswith("#"):
            continue
        try:
            weight = float(text)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf") or not where.strip():
            raise InputError(f"{path} line {number}: write WEIGHT PATH, the weight above 0")
        where = where.strip()
        rows.append((weight, where if "://" in where else str(path.parent / where)))
    if not rows:
        raise InputError(f"{path} names no data; write a line WEIGHT PATH for each")
    return rows
