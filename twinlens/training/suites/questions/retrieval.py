"""Retrieval: which caption is the picture's, and which picture is the caption's?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from twinlens.training.suites.material import Material
from twinlens.training.suites.sheet import Question, Sheet


def write_retrieval(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask for each picture's captions among all, and for each caption's picture.

    Equal captions are one text: every picture that has it is right.
    """
    sheet = Sheet()
    own: dict[int, frozenset[int]] = {}
    shown: dict[int, set[int]] = defaultdict(set)
    clusters: dict[int, str] = {}
    for exhibit in material.exhibits:
        if not exhibit.captions:
            continue
        picture = sheet.add_picture(exhibit.picture)
        clusters[picture] = exhibit.key
        own[picture] = frozenset(sheet.add_text(text) for text in exhibit.captions)
        for text in own[picture]:
            shown[text].add(picture)
    pictures, texts = np.arange(len(sheet.pictures)), np.arange(len(sheet.texts))
    for picture, right in own.items():
        sheet.questions.append(
            Question(picture, texts, right, clusters[picture], "picture to text")
        )
    for text, holders in shown.items():
        cluster = clusters[min(holders)]
        sheet.questions.append(
            Question(
                text, pictures, frozenset(holders), cluster, "text to picture", "text", "picture"
            )
        )
    return sheet
