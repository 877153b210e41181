"""Chooses a diverse subset: each next item is the one farthest from all that are chosen.

Greedy k-centre: no item is farther from the subset than twice what the best subset of that size
could reach.
"""

from __future__ import annotations

import numpy as np

from twinlens.errors import InputError
from twinlens.index.upkeep.live_rows import mean_row
from twinlens.index.vectors.arrays import Floats, Halves, as_float32

BLOCK = 8192


def select_diverse(rows: Halves, count: int) -> tuple[list[int], float]:
    """Return `count` rows (or all) in the order chosen, and the cosine of the worst covered row.

    The first is the most typical row, so that the result depends on the rows alone.
    """
    if count < 1:
        raise InputError(f"count is {count}; it must be at least 1", field="count")
    if not len(rows):
        return [], 1.0
    chosen = [int(np.argmax(_cosines(rows, mean_row(rows))))]
    closest = _cosines(rows, as_float32(rows[chosen[0]]))
    while len(chosen) < min(count, len(rows)):
        closest[chosen[-1]] = np.inf
        chosen.append(int(np.argmin(closest)))
        closest = np.maximum(closest, _cosines(rows, as_float32(rows[chosen[-1]])))
    closest[chosen[-1]] = np.inf
    return chosen, float(min(1.0, closest.min()))


def _cosines(rows: Halves, direction: Floats) -> Floats:
    return np.concatenate(
        [
            as_float32(rows[start : start + BLOCK]) @ direction
            for start in range(0, len(rows), BLOCK)
        ]
    )
