"""Groups near-duplicates, so that ten copies of an image become one hit."""

from __future__ import annotations

import numpy as np

from twinlens.errors import InputError
from twinlens.index.vectors.arrays import Floats

DUPLICATE_SIMILARITY = 0.98


def group_duplicates(rows: Floats, similarity: float = DUPLICATE_SIMILARITY) -> list[list[int]]:
    """Return groups of positions; the first of a group is its best; groups keep their order.

    `rows` (n, d) are unit rows, best answer first. A row joins the first group whose best row is at
    least this similar; it is compared with no other row, so groups do not chain.
    """
    if not -1 <= similarity <= 1:
        raise InputError(
            f"similarity is {similarity}; it is a cosine, between -1 and 1", field="group"
        )
    groups: list[list[int]] = []
    if not len(rows):
        return groups
    cosines = rows @ rows.T
    for place in range(len(rows)):
        heads = np.array([group[0] for group in groups], dtype=np.int64)
        close = np.flatnonzero(cosines[place, heads] >= similarity)
        if len(close):
            groups[int(close[0])].append(place)
        else:
            groups.append([place])
    return groups
