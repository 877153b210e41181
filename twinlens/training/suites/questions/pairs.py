"""Pairs: two pictures with a caption each, often of the same words; which belongs to which?

If the data have no pairs they are drawn: scenes that one rearrangement turns into each other. The
three scores of Winoground (Thrush et al. 2022, https://arxiv.org/abs/2204.03162): `text`, both
pictures find their caption; `image`, both captions find their picture; `group`, all four. What must
stay true: by chance they are 1/4, 1/4 and 1/6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from twinlens.bundle.image.image_source import ImageSource
from twinlens.training.suites.answers import Answer, answer_sheet
from twinlens.training.suites.examinee import EmbeddedSheet
from twinlens.training.suites.material import Material
from twinlens.training.suites.questions.relations import TWINS, draw_twins
from twinlens.training.suites.result import (
    WORST,
    Outcome,
    Result,
    describe_answer,
    measure_outcomes,
)
from twinlens.training.suites.sheet import Question, Sheet

TEXT, IMAGE, GROUP = "text", "image", "group"
SCENES = 50  # drawn pairs of each kind
CHANCE = {TEXT: 1 / 4, IMAGE: 1 / 4, GROUP: 1 / 6}


def write_pairs(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask four questions about each pair: two pictures for their captions, and the reverse."""
    sheet = Sheet()
    for folder, both in material.pairs.items():
        _ask(sheet, folder, [(one.picture, one.captions[0]) for one in both])
    if not sheet.questions:
        rng = np.random.default_rng(seed)
        for number in range(SCENES):
            for group in TWINS:
                _ask(sheet, f"{group} {number}", draw_twins(group, rng))
    return sheet


def judge_pairs(suite: str, sheet: Sheet, rows: EmbeddedSheet, seed: int) -> Result:
    """Return the group score, with the text and image scores as groups."""
    asked: dict[str, list[Answer]] = defaultdict(list)
    for answer in answer_sheet(sheet, rows):
        asked[answer.question.cluster].append(answer)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in CHANCE}
    for pair, answers in asked.items():
        for name, chance in CHANCE.items():
            own = [answer for answer in answers if name in (GROUP, answer.question.group)]
            score = min(answer.score for answer in own)
            outcomes[name].append(Outcome(score, chance, pair, name))
    wrong = [answer for answers in asked.values() for answer in answers if answer.margin <= 0]
    worst = sorted(wrong, key=lambda answer: answer.margin)[:WORST]
    measures = {name: measure_outcomes(own, seed=seed) for name, own in outcomes.items()}
    return Result(
        suite,
        measures[GROUP],
        {name: measures[name] for name in (TEXT, IMAGE)},
        tuple(describe_answer(sheet, answer) for answer in worst),
        outcomes=tuple(outcomes[GROUP]),
    )


def _ask(sheet: Sheet, pair: str, both: Sequence[tuple[ImageSource, str]]) -> None:
    pictures = np.array([sheet.add_picture(picture) for picture, _ in both], np.int64)
    texts = np.array([sheet.add_text(text) for _, text in both], np.int64)
    for picture, text in zip(pictures.tolist(), texts.tolist(), strict=True):
        sheet.questions.append(Question(picture, texts, frozenset([text]), pair, TEXT))
        sheet.questions.append(
            Question(
                text, pictures, frozenset([picture]), pair, IMAGE, asks="text", answers="picture"
            )
        )
