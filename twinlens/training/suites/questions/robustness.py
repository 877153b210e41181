"""Robustness: does a corrupted picture still match its original, among others?

No labels are needed; the encoder's own rows of the clean pictures are the reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.demo.drawings import draw_all
from twinlens.training.suites.material import Material, decode_picture
from twinlens.training.suites.questions.corruptions import CORRUPTIONS, STRENGTHS, corrupt_picture
from twinlens.training.suites.sheet import Question, Sheet

PICTURES = 64
SIDE = 128  # drawings


def write_robustness(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask, for each corruption and strength, for the original of a corrupted picture."""
    sheet, rng = Sheet(), np.random.default_rng(seed)
    if material.exhibits:
        exhibits = [material.exhibits[p] for p in _pick(len(material.exhibits), rng)]
        pictures = [decode_picture(exhibit.picture) for exhibit in exhibits]
    else:
        drawings = [drawing.image for drawing in draw_all(SIDE)]
        pictures = [drawings[place] for place in _pick(len(drawings), rng)]
    clean = np.array([sheet.add_picture(picture) for picture in pictures], np.int64)
    for place, picture in enumerate(pictures):
        for kind in CORRUPTIONS:
            for strength in STRENGTHS:
                query = sheet.add_picture(corrupt_picture(picture, kind, strength, rng))
                right = frozenset([int(clean[place])])
                sheet.questions.append(
                    Question(
                        query, clean, right, f"{place}", f"{kind} {strength}", answers="picture"
                    )
                )
    return sheet


def _pick(count: int, rng: np.random.Generator) -> list[int]:
    return sorted(int(place) for place in rng.permutation(count)[:PICTURES])
