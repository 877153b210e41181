"""Which dials a filtered search uses: those tuned for the share of rows that the filter keeps.

Shares between two that were measured get a probe between theirs; where the narrower of the two was
out of reach the search is exact. A filter is never applied after the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from twinlens.index.ann.candidates import Dials


@dataclass(frozen=True)
class FilteredDials:
    """Dials that reach the recall under a filter that keeps `share` of the rows; None: none do."""

    share: float
    dials: Dials | None


def choose_dials(tuned: Sequence[FilteredDials], share: float) -> Dials | None:
    """Return the dials for a share of the rows; None: only an exact search reaches the recall.

    `tuned` goes from all rows to few; a share below the last is treated as the last.
    """
    if not tuned:
        return None
    wide = max((one for one in tuned if one.share >= share), key=lambda one: -one.share)
    narrow = next((one for one in tuned if one.share <= share), tuned[-1])
    if wide.dials is None or narrow.dials is None:
        return None
    expansion = max(wide.dials.expansion, narrow.dials.expansion)
    if wide.share == narrow.share:
        return narrow.dials
    way = math.log(wide.share / share) / math.log(wide.share / narrow.share)
    low, high = max(1, wide.dials.probe), max(1, narrow.dials.probe)
    return Dials(math.ceil(low * (high / low) ** min(1.0, way)), expansion)
