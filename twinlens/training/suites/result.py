"""The result of a suite: score, chance, interval, groups, and the worst cases.

What must stay true: every score is reported with its chance and its interval; controls count in no
score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinlens.bundle.image.image_source import ImageSource
from twinlens.training.suites.answers import Answer
from twinlens.training.suites.interval import bootstrap_interval, share_interval
from twinlens.training.suites.sheet import ItemKind, Sheet

WORST = 10


@dataclass(frozen=True)
class Measure:
    """A share between 0 and 1, its chance, its interval, and the number of cases."""

    score: float
    chance: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        """Return the fields, rounded."""
        shares = {name: round(getattr(self, name), 4) for name in ("score", "chance")}
        return {**shares, "low": round(self.low, 4), "high": round(self.high, 4), "n": self.n}


@dataclass(frozen=True)
class Case:
    """One answer to show: the question, the right answer, the given answer."""

    asked: str
    right: str
    said: str
    margin: float
    group: str
    pictures: tuple[ImageSource, ...]  # the one asked with, then those named by number

    def to_json(self) -> dict[str, Any]:
        """Return the fields but for the pictures."""
        texts = {"asked": self.asked, "right": self.right, "said": self.said}
        return {**texts, "margin": round(self.margin, 4), "group": self.group}


@dataclass(frozen=True)
class Outcome:
    """The score of one counted case; outcomes of two encoders are paired by position."""

    score: float
    chance: float
    cluster: str
    group: str = ""


@dataclass(frozen=True)
class Result:
    """The result of a suite for one encoder."""

    suite: str
    measure: Measure
    groups: dict[str, Measure] = field(default_factory=dict)
    worst: tuple[Case, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return all but pictures and single outcomes."""
        return {
            "suite": self.suite,
            **self.measure.to_json(),
            "groups": {name: group.to_json() for name, group in self.groups.items()},
            "numbers": self.numbers,
            "worst": [case.to_json() for case in self.worst],
        }


def compare_groups(
    answers: Sequence[Answer], base: str, *, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Return the paired gain of each group of answers over the base, with interval.

    Each is (mean difference, low, high), by the group's name.
    """
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.question.group, []).append(answer)
    below = np.array([answer.score for answer in groups.pop(base)])
    found = {}
    for name, own in groups.items():
        gains = np.array([answer.score for answer in own]) - below
        low, high = bootstrap_interval(gains, [one.question.cluster for one in own], seed=seed)
        found[name] = (float(gains.mean()), low, high)
    return found


def summarise(suite: str, sheet: Sheet, answers: Sequence[Answer], *, seed: int = 0) -> Result:
    """Return the result of a suite whose score is the share of right answers."""
    counted = [answer for answer in answers if not answer.question.control]
    grouped: dict[str, list[Outcome]] = defaultdict(list)
    for answer in answers:
        grouped[answer.question.group].append(note_outcome(answer))
    outcomes = tuple(note_outcome(answer) for answer in counted)
    worst = sorted((a for a in counted if a.margin <= 0), key=lambda answer: answer.margin)
    return Result(
        suite,
        measure_outcomes(outcomes, seed=seed),
        {name: measure_outcomes(own, seed=seed) for name, own in grouped.items() if name},
        tuple(describe_answer(sheet, answer) for answer in worst[:WORST]),
        outcomes=outcomes,
    )


def note_outcome(answer: Answer) -> Outcome:
    """Return the outcome of an answer."""
    question = answer.question
    return Outcome(answer.score, question.chance, question.cluster, question.group)


def measure_outcomes(outcomes: Sequence[Outcome], *, seed: int = 0) -> Measure:
    """Return score, chance and interval of outcomes."""
    scores = [outcome.score for outcome in outcomes]
    low, high = share_interval(scores, [outcome.cluster for outcome in outcomes], seed=seed)
    chance = sum(outcome.chance for outcome in outcomes) / len(outcomes)
    return Measure(sum(scores) / len(scores), chance, low, high, len(scores))


def describe_answer(sheet: Sheet, answer: Answer) -> Case:
    """Return an answer with its words and pictures."""
    question = answer.question
    right = min(question.right)
    pictures = [sheet.pictures[question.query]] if question.asks == "picture" else []
    if question.answers == "picture":
        pictures += [sheet.pictures[right], sheet.pictures[answer.chosen]]
    return Case(
        name_item(sheet, question.asks, question.query),
        name_item(sheet, question.answers, right),
        name_item(sheet, question.answers, answer.chosen),
        answer.margin,
        question.group,
        tuple(pictures),
    )


def name_item(sheet: Sheet, kind: ItemKind, number: int) -> str:
    """Return the text of an item, or the number of its picture."""
    return sheet.texts[number][0] if kind == "text" else f"picture {number + 1}"
