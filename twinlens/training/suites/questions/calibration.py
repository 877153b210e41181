"""Calibration: are the probabilities reliable, and is "none of these" recognised?

Half of the classes are offered. The score is how often a picture of an offered class has a higher
top probability than a picture of a class that is not offered: chance is one half. Also reported are
the expected calibration error, the temperature that corrects it (fitted on other pictures than it
is measured on), and the risk at several coverages: for pictures of offered classes, and
(`open_risk`) for all, where any answer to a picture of no offered class is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.calibration.fitting import calibration_error
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.training.suites.examinee import EmbeddedSheet
from twinlens.training.suites.material import Material
from twinlens.training.suites.questions.classes import add_classes, label_of, list_classes
from twinlens.training.suites.result import WORST, Case, Outcome, Result, measure_outcomes
from twinlens.training.suites.sheet import Question, Sheet

COVERAGES = (0.5, 0.8, 1.0)
_TEMPERATURES = np.geomspace(0.05, 200, 241)

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


def write_calibration(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Offer half of the classes for the pictures of all."""
    sheet, rng = Sheet(), np.random.default_rng(seed)
    names = list_classes(material)
    drawn = sorted(rng.permutation(len(names))[: (len(names) + 1) // 2])
    offered = [names[place] for place in drawn]
    classes = add_classes(sheet, offered, templates)
    labelled = [exhibit for exhibit in material.exhibits if exhibit.label]
    for place in rng.permutation(len(labelled)):
        exhibit = labelled[place]
        label = label_of(exhibit)
        right = frozenset([int(classes[offered.index(label)])] if label in offered else [])
        picture = sheet.add_picture(exhibit.picture)
        sheet.questions.append(Question(picture, classes, right, exhibit.key, label))
    return sheet


def judge_calibration(suite: str, sheet: Sheet, rows: EmbeddedSheet, seed: int) -> Result:
    """Return how well confidence separates offered classes from others, and the calibration."""
    asked = sheet.questions
    cosines = rows.pictures[[q.query for q in asked]] @ rows.texts[asked[0].candidates].T
    logits = _scale(cosines.astype(np.float64), rows.similarity)
    top = measure_sureness(logits, rows.similarity)
    known = [place for place, question in enumerate(asked) if question.right]
    unknown = [place for place, question in enumerate(asked) if not question.right]
    pairs = list(zip(known, unknown, strict=False))
    outcomes = tuple(Outcome(float(top[one] > top[other]), 0.5, f"{one}") for one, other in pairs)
    truth = np.array([min(asked[place].right) for place in known], np.int64)
    hits = np.zeros(len(asked), bool)
    hits[known] = logits[known].argmax(axis=1) == truth
    return Result(
        suite,
        measure_outcomes(outcomes, seed=seed),
        worst=_find_worst(sheet, logits, top, unknown),
        numbers=measure_doubt(logits[known], truth, rows.similarity)
        | measure_risks(top, hits, "open_risk"),
        outcomes=outcomes,
    )


def measure_doubt(logits: Doubles, truth: Ints, similarity: SimilaritySpec) -> dict[str, float]:
    """Return ECE before and after a temperature, that temperature, and risks by coverage.

    The temperature is fitted on every second picture; all numbers are of the others.
    """
    fitted = fit_temperature(logits[::2], truth[::2], similarity)
    rest, right = logits[1::2], truth[1::2]
    if not len(rest):
        return {}
    hit = rest.argmax(axis=1) == right
    before = to_probabilities(rest, similarity).max(axis=1)
    after = to_probabilities(rest / fitted, similarity).max(axis=1)
    numbers = {
        "accuracy": float(hit.mean()),
        "ece": calibration_error(before, hit),
        "ece_mended": calibration_error(after, hit),
        "temperature": fitted,
    }
    rounded = {name: round(value, 4) for name, value in numbers.items()}
    return rounded | measure_risks(measure_sureness(rest, similarity), hit, "risk")


def measure_risks(top: Doubles, hits: NDArray[np.bool_], name: str) -> dict[str, float]:
    """Return the share of wrong answers among the most confident cases, by coverage."""
    order = np.argsort(-top, kind="stable")
    risks = {}
    for coverage in COVERAGES:
        kept = order[: max(1, round(coverage * len(order)))]
        risks[f"{name}_at_{coverage:.0%}"] = round(float(1 - hits[kept].mean()), 4)
    return risks


def fit_temperature(logits: Doubles, truth: Ints, similarity: SimilaritySpec) -> float:
    """Return the temperature (a divisor of logits) under which true classes are likeliest."""
    losses = []
    for temperature in _TEMPERATURES:
        found = to_probabilities(logits / temperature, similarity)
        own = np.clip(found[np.arange(len(truth)), truth], 1e-12, 1)
        loss = -np.log(own)
        if similarity.kind == "sigmoid":  # sigmoid: each class is a question of its own
            others = np.clip(1 - found, 1e-12, 1)
            loss = loss - np.log(others).sum(axis=1) + np.log(others[np.arange(len(truth)), truth])
        losses.append(loss.mean())
    return float(_TEMPERATURES[int(np.argmin(losses))])


def to_probabilities(logits: Doubles, similarity: SimilaritySpec) -> Doubles:
    """Return the probabilities of the classes: they sum to 1 under softmax only."""
    if similarity.kind == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def measure_sureness(logits: Doubles, similarity: SimilaritySpec) -> Doubles:
    """Return the log-odds of the top class: the order of its probabilities, which round to 1."""
    ordered = np.sort(logits, axis=1)
    best, others = ordered[:, -1], ordered[:, :-1]
    if similarity.kind == "sigmoid" or not others.shape[1]:
        return np.asarray(best)
    second = others[:, -1]
    return np.asarray(best - second - np.log(np.exp(others - second[:, None]).sum(axis=1)))


def _scale(cosines: Doubles, similarity: SimilaritySpec) -> Doubles:
    return cosines * similarity.scale + similarity.bias


def _find_worst(
    sheet: Sheet, logits: Doubles, top: Doubles, unknown: Sequence[int]
) -> tuple[Case, ...]:
    """Return the pictures of no offered class with the most confident answers."""
    cases = []
    for place in sorted(unknown, key=lambda place: -top[place])[:WORST]:
        question = sheet.questions[place]
        said = sheet.texts[int(question.candidates[logits[place].argmax()])][0]
        picture = sheet.pictures[question.query]
        asked = f"picture of {question.group}"
        share = 0.5 * (1 + float(np.tanh(top[place] / 2)))
        cases.append(Case(asked, "none of these", said, -share, "", (picture,)))
    return tuple(cases)
