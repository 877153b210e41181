"""Languages: which name is the picture's, among names of one language; the gap to English.

What must stay true: every language is asked about the same pictures among the same things, so that
the gaps are paired; English is shown and not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from twinlens.training.suites.answers import answer_sheet
from twinlens.training.suites.examinee import EmbeddedSheet
from twinlens.training.suites.material import Material
from twinlens.training.suites.questions.classes import add_classes
from twinlens.training.suites.result import Result, compare_groups, summarise
from twinlens.training.suites.sheet import Question, Sheet

ENGLISH = "en"
MOST = 500  # pictures


def write_languages(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask for the name of each picture that has one in every language, without a template."""
    sheet, rng = Sheet(), np.random.default_rng(seed)
    languages = material.translations
    shared = set.intersection(*(set(names) for names in languages.values()))
    named = [
        exhibit for exhibit in material.exhibits if exhibit.names[:1] and exhibit.names[0] in shared
    ]
    chosen = [named[place] for place in sorted(rng.permutation(len(named))[:MOST])]
    asked = sorted({exhibit.names[0] for exhibit in chosen})
    pictures = [sheet.add_picture(exhibit.picture) for exhibit in chosen]
    tables = {ENGLISH: {name: name for name in asked}, **languages}
    for language, names in tables.items():
        words = [names[name] for name in asked]
        numbers = add_classes(sheet, words, ("{}",))
        candidates = np.unique(numbers)  # two things may share a word
        for picture, exhibit in zip(pictures, chosen, strict=True):
            right = frozenset([int(numbers[asked.index(exhibit.names[0])])])
            control = language == ENGLISH
            question = Question(picture, candidates, right, exhibit.key, language, control=control)
            sheet.questions.append(question)
    return sheet


def judge_languages(suite: str, sheet: Sheet, rows: EmbeddedSheet, seed: int) -> Result:
    """Return the score over all other languages, and the gap of each to English."""
    answers = answer_sheet(sheet, rows)
    numbers = {}
    for language, (gain, low, high) in compare_groups(answers, ENGLISH, seed=seed).items():
        numbers[f"gap_{language}"] = round(-gain, 4)
        numbers[f"gap_{language}_low"] = round(-high, 4)
        numbers[f"gap_{language}_high"] = round(-low, 4)
    return replace(summarise(suite, sheet, answers, seed=seed), numbers=numbers)
