"""Composition: of a caption and a copy with one change, which is true of the picture?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.training.data.word_kinds import WORD
from twinlens.training.suites.material import Exhibit, Material
from twinlens.training.suites.questions.rules import RULES
from twinlens.training.suites.questions.wording import (
    Caption,
    Vocabulary,
    mend_articles,
    read_vocabulary,
)
from twinlens.training.suites.sheet import Sheet

ROUNDS = 2  # changes per rule and caption


def write_composition(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask, for each caption and each rule that applies, for the true one of two.

    Captions listed in the data as almost true (`negatives`), and SugarCrepe's published pairs, are
    asked too.
    """
    sheet, rng = Sheet(), np.random.default_rng(seed)
    nouns = read_vocabulary([text for exhibit in material.exhibits for text in exhibit.names])
    for exhibit in material.exhibits:
        pairs = list_pairs(exhibit, nouns, rng)
        if not pairs:
            continue
        picture = sheet.add_picture(exhibit.picture)
        for rule, true, false in pairs:
            sheet.add_pair(picture, true, false, exhibit.key, rule)
    return sheet


def list_pairs(
    exhibit: Exhibit, nouns: Vocabulary, rng: np.random.Generator
) -> list[tuple[str, str, str]]:
    """Return (rule, true caption, false caption) for a picture."""
    seen = {match.group().lower() for text in exhibit.names for match in WORD.finditer(text)}
    true = {text.lower() for text in exhibit.names}
    pairs = []
    for text in filter(is_well_formed, exhibit.names):
        for rule, change in RULES.items():
            for _ in range(ROUNDS):
                false = change(Caption(text, seen, nouns, rng))
                if false is not None and false.lower() not in true:
                    pairs.append((rule, text, false))
    pairs += [("listed", exhibit.names[0], false) for false in exhibit.negatives if exhibit.names]
    pairs += [(f"SugarCrepe {kind}", caption, false) for kind, caption, false in exhibit.listed]
    return list(dict.fromkeys(pairs))


def is_well_formed(caption: str) -> bool:
    """Tell whether a caption's form cannot betray it: not all capitals, no `a apple`."""
    return mend_articles(caption) == caption and not caption.isupper()
