"""Answers to a sheet by cosines: the chosen candidate, whether it is right, and its margin.

What must stay true: a tie between a right and a wrong candidate counts as wrong.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.training.suites.examinee import EmbeddedSheet
from twinlens.training.suites.sheet import ItemKind, Question, Sheet

_BLOCK = 512  # questions at a time


@dataclass(frozen=True, eq=False)
class Answer:
    """The top candidate, and the lead of the best right one over the best wrong one."""

    question: Question
    chosen: int
    margin: float

    @property
    def score(self) -> float:
        """1 where the answer is right, else 0."""
        return float(self.margin > 0)


def answer_sheet(sheet: Sheet, rows: EmbeddedSheet) -> list[Answer]:
    """Return the answer to each question that has a right one, in order."""
    table: dict[ItemKind, Rows] = {"picture": rows.pictures, "text": rows.texts}
    asked = [question for question in sheet.questions if question.right]
    # Questions with the same candidates share one product.
    shared: dict[tuple[int, ItemKind], list[int]] = defaultdict(list)
    for place, question in enumerate(asked):
        shared[id(question.candidates), question.asks].append(place)
    found: dict[int, Answer] = {}
    for places in shared.values():
        first = asked[places[0]]
        candidates = table[first.answers][first.candidates]
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            queries = table[first.asks][[asked[place].query for place in block]]
            for place, cosines in zip(block, queries @ candidates.T, strict=True):
                found[place] = _judge(asked[place], cosines)
    return [found[place] for place in range(len(asked))]


def _judge(question: Question, cosines: Rows) -> Answer:
    right = np.isin(question.candidates, list(question.right))
    wrong = cosines[~right]
    lead = cosines[right].max() - wrong.max() if len(wrong) else np.inf
    return Answer(question, int(question.candidates[cosines.argmax()]), float(lead))
