"""Parameters of filtered searches, tuned by the share of rows that a filter keeps.

A share between two measured ones gets an interpolated probe; if no parameters reached the target at
the narrower of the two, the search is exact. A filter is never applied after the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from twinlens.index.ann.candidates import IndexParams


@dataclass(frozen=True)
class FilteredParams:
    """Parameters that reach the recall under a filter that keeps `share` of the rows, or None."""

    share: float
    params: IndexParams | None


def choose_params(tuned: Sequence[FilteredParams], share: float) -> IndexParams | None:
    """Return the parameters for a share of the rows; None if only exact search reaches the recall.

    `tuned` is sorted from all rows to few; a share below the last is treated as the last.
    """
    if not tuned:
        return None
    wide = max((one for one in tuned if one.share >= share), key=lambda one: -one.share)
    narrow = next((one for one in tuned if one.share <= share), tuned[-1])
    if wide.params is None or narrow.params is None:
        return None
    expansion = max(wide.params.expansion, narrow.params.expansion)
    if wide.share == narrow.share:
        return narrow.params
    position = math.log(wide.share / share) / math.log(wide.share / narrow.share)
    low, high = max(1, wide.params.probe), max(1, narrow.params.probe)
    return IndexParams(math.ceil(low * (high / low) ** min(1.0, position)), expansion)
