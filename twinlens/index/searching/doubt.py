"""What the hits of a text are worth: a probability for each, and whether nothing here matches.

What must stay true: only plain cosines of the bundle's full embeddings are judged, against all
items that a search could return; a bundle without calibration is judged by nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.bundle.calibration.calibration import Calibration, CosineVerdict
from twinlens.index.hits import Hit
from twinlens.index.snapshot import Snapshot


def judge_hits(
    calibration: Calibration | None, hits: Sequence[Hit], snapshot: Snapshot, width: int
) -> CosineVerdict | None:
    """Return the verdict on the hits of one text, whose scores are cosines.

    None without a calibration, and where the collection keeps fewer than the bundle's `width`
    dimensions: their cosines are others.
    """
    if calibration is None or snapshot.head.dim != width:
        return None
    cosines = np.array([hit.score for hit in hits], np.float32)
    return calibration.judge_hits(cosines, snapshot.live_count)
