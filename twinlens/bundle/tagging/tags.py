"""The best tags of a picture, from its cosines to the words of a vocabulary.

What must stay true: the order is that of the cosines; a probability says how likely a word of that
cosine is true if it were the best of the vocabulary, so that a larger vocabulary raises no tag by
chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinlens.bundle.arrays import Row
from twinlens.bundle.calibration.calibration import Calibration, find_evidence, weigh


@dataclass(frozen=True)
class Tag:
    """A word with its cosine and, for a calibrated bundle, the probability that it is true."""

    word: str
    similarity: float
    probability: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields in the form of answers."""
        return {"tag": self.word, "similarity": self.similarity, "probability": self.probability}


@dataclass(frozen=True)
class TaggedPicture:
    """The tags of a picture, best first; `none_of_these` is None without a calibration."""

    tags: tuple[Tag, ...]
    none_of_these: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields in the form of answers."""
        told = {"tags": [tag.to_json() for tag in self.tags]}
        return told | {"none_of_these": self.none_of_these}


def rank_tags(
    words: Sequence[str],
    cosines: Row,
    calibration: Calibration | None,
    count: int,
    level: float = 0.0,
) -> TaggedPicture:
    """Return the `count` nearest words of one picture (cosines to all words).

    `level` is the calibration's for the picture.
    """
    order = np.argsort(-cosines, kind="stable")[:count].tolist()
    if calibration is None:
        tags = tuple(Tag(words[i], float(cosines[i]), None) for i in order)
        return TaggedPicture(tags, None)
    evidence = find_evidence(calibration.classes, len(words))
    shares = weigh(evidence, cosines[order] - level).tolist()
    tags = tuple(
        Tag(words[i], float(cosines[i]), share) for i, share in zip(order, shares, strict=True)
    )
    return TaggedPicture(tags, bool(cosines.max() - level < evidence.limit))
