"""Which parameters a filtered search uses: those tuned for the share of rows that the filter keeps.

Shares between two that were measured get a probe between theirs; where the narrower of the two was
out of reach the search is exact. A filter is never applied after the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from twinlens.index.ann.candidates import IndexParams


@dataclass(frozen=True)
class FilteredParams:
    """Dials that reach the recall under a filter that keeps `share` of the rows; None: none do."""

    share: float
    params: IndexParams | None


def choose_params(tuned: Sequence[FilteredParams], share: float) -> IndexParams | None:
    """Return the parameters for a share of the rows; None: only an exact search reaches the recall.

    `tuned` goes from all rows to few; a share below the last is treated as the last.
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
    way = math.log(wide.share / share) / math.log(wide.share / narrow.share)
    low, high = max(1, wide.params.probe), max(1, narrow.params.probe)
    return IndexParams(math.ceil(low * (high / low) ** min(1.0, way)), expansion)
