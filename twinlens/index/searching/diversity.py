"""Maximal marginal relevance: each next hit is similar to the query and unlike those before it."""

from __future__ import annotations

import numpy as np

from twinlens.index.vectors.arrays import Floats


def diversify(rows: Floats, relevance: Floats, count: int, diversity: float) -> list[int]:
    """Return `count` places of unit rows (n, d) in the order of their marginal relevance.

    At `diversity` 0 it is the order of `relevance` (n,), at 1 only the difference counts.
    """
    spread = float(np.ptp(relevance)) or 1.0
    merit = (1 - diversity) * (relevance - relevance.min()) / spread
    closest = np.full(len(rows), -1.0, np.float32)  # cosine to the nearest hit that was chosen
    left = np.ones(len(rows), bool)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        worth = merit - diversity * (closest if chosen else 0.0)
        place = int(np.argmax(np.where(left, worth, -np.inf)))
        chosen.append(place)
        left[place] = False
        closest = np.maximum(closest, rows @ rows[place])
    return chosen
