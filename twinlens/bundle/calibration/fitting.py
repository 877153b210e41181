"""Fits a calibration to cosines of pictures and texts whose matches are known.

Questions are drawn: a picture and several texts, with its own text among them in half of the
questions. What must stay true: equal cosines give an equal calibration, and the reported numbers
come from pictures that were not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.calibration.calibration import (
    ALARM,
    QUANTILES,
    Calibration,
    Doubles,
    Evidence,
)

QUESTIONS = 2000  # questions for each number of candidates
OFFERED = (2, 3, 5, 10, 20)  # numbers of classes that the temperature is fitted to
BINS = 15
_TEMPERATURES = np.geomspace(0.1, 30, 120)
_RIDGE = 1e-3

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matches:
    """Cosines (n, m) of n askers to m candidates, and which of them match."""

    cosines: Doubles
    right: Flags

    def less(self, levels: Doubles) -> Matches:
        """Return each asker's cosines minus its level."""
        return Matches(self.cosines - levels[:, None], self.right)

    def take(self, part: slice) -> Matches:
        """Return some of the askers."""
        return Matches(self.cosines[part], self.right[part])


@dataclass(frozen=True, eq=False)
class DrawnQuestions:
    """Questions with equally many candidates: their cosines, and the right one's position or -1."""

    cosines: Doubles  # (questions, candidates)
    place: NDArray[np.int64]

    @property
    def best(self) -> Doubles:
        """The highest cosine of each question."""
        return np.asarray(self.cosines.max(axis=1))


def draw_questions(matches: Matches, candidates: int, seed: int) -> DrawnQuestions:
    """Return questions with so many candidates; every second one includes a right candidate."""
    rng = np.random.default_rng([seed, candidates])
    cosines, places = [], []
    wrong = [np.flatnonzero(~own) for own in matches.right]
    askers = np.flatnonzero(
        [len(w) >= candidates and o.any() for w, o in zip(wrong, matches.right, strict=True)]
    )
    if not len(askers):
        return DrawnQuestions(np.zeros((0, candidates)), np.zeros(0, np.int64))
    for number in range(QUESTIONS):
        asker = askers[number // 2 % len(askers)]
        offered = rng.choice(wrong[asker], candidates, replace=False)
        place = -1
        if number % 2:
            place = int(rng.integers(candidates))
            offered[place] = rng.choice(np.flatnonzero(matches.right[asker]))
        cosines.append(matches.cosines[asker, offered])
        places.append(place)
    return DrawnQuestions(np.stack(cosines), np.array(places, np.int64))


def fit_evidence(
    sets: Sequence[Matches], seed: int, *, alarm: float = ALARM, refused: float | None = None
) -> tuple[Evidence, ...]:
    """Return the evidence for the best of 1, 2, 4 ... candidates, pooled over data sets.

    The best wrong one passes a limit in the share `alarm` of questions; `refused` bounds the share
    of questions whose right candidate is below the limit.
    """
    most = max(int((~one.right).sum(axis=1).max()) for one in sets)
    counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
    found = []
    for count in counts:
        draws = [draw_questions(one, count, seed) for one in sets]
        best = np.concatenate([one.best for one in draws if len(one.place)])
        right = np.concatenate([one.place for one in draws if len(one.place)]) >= 0
        # If only one data set has so many candidates, dropping the others would cause a jump.
        drawn = [one for one in draws if len(one.place)]
        limit = max(float(np.quantile(one.best[one.place < 0], 1 - alarm)) for one in drawn)
        if refused is not None:
            known = (float(np.quantile(one.best[one.place >= 0], refused)) for one in drawn)
            limit = min(limit, *known)
        found.append(Evidence(count, limit, *fit_curve(best, right)))
    return _make_rising(found)


def fit_curve(cosines: Doubles, right: Flags) -> tuple[float, float]:
    """Return middle and slope of the logistic curve, by Newton's method on standardised cosines."""
    mean, deviation = float(cosines.mean()), float(cosines.std()) or 1.0
    inputs = np.stack([np.ones_like(cosines), (cosines - mean) / deviation], axis=1)
    weights = np.zeros(2)
    for _ in range(30):
        found = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (found - right) / len(right) + _RIDGE * weights
        curvature = (inputs * (found * (1 - found))[:, None]).T @ inputs / len(right)
        weights -= np.linalg.solve(curvature + _RIDGE * np.eye(2), gradient)
    steep = max(float(weights[1]), 1e-3)
    return mean - float(weights[0]) / steep * deviation, steep / deviation


def fit_temperature(sets: Sequence[Matches], scale: float, seed: int) -> float:
    """Return the temperature that makes right classes likeliest, over numbers of classes."""
    draws = [known for one in sets for known in _draw_known(one, seed)]
    if not draws:
        return 1.0
    losses = [
        np.mean([_surprise(one, scale / temperature) for one in draws])
        for temperature in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def fit_calibration(
    pictures: Sequence[Matches],
    texts: Sequence[Matches],
    scale: float,
    source: dict[str, Any],
    *,
    seed: int = 0,
    alarm: float = ALARM,
    refused: float | None = None,
    origin: tuple[float, ...] = (),
) -> Calibration:
    """Return the calibration of every second asker, measured on the others.

    `pictures` ask for texts, one entry for each data set; `texts` ask for pictures. `alarm` and
    `refused` are `fit_evidence`'s; `pictures` are judged above the levels that `origin` gives them.
    """
    even, odd = ([one.take(slice(start, None, 2)) for one in pictures] for start in (0, 1))
    flat = np.concatenate([one.cosines[one.right] for one in even])
    others = np.concatenate([one.cosines[~one.right] for one in even])
    found = Calibration(
        fit_temperature(even, scale, seed),
        fit_evidence(even, seed, alarm=alarm, refused=refused),
        fit_evidence(texts, seed, alarm=alarm, refused=refused),
        tuple(map(float, np.quantile(flat, QUANTILES))),
        tuple(map(float, np.quantile(others, QUANTILES))),
        source,
    )
    return Calibration(
        found.temperature, found.classes, found.search, found.matched, found.unmatched, source,
        measure_calibration(found, odd, scale, seed=seed + 1), origin,
    )  # fmt: skip


def measure_calibration(
    calibration: Calibration, sets: Sequence[Matches], scale: float, *, seed: int = 1
) -> dict[str, Any]:
    """Return errors of probabilities and verdicts for 5 classes, or as many as there are.

    `ece` is of the plain scores, `ece_calibrated` of the calibrated ones, both over questions of
    which half have no right answer; `mistakes` is the share of those that are answered, and
    `refusals` the share of the others that are not.
    """
    offered = int(min(5, *((~one.right).sum(axis=1).max() for one in sets)))
    draws = [draw_questions(one, offered, seed) for one in sets]
    return {"classes": offered, **measure_questions(calibration, draws, scale)}


def measure_questions(
    calibration: Calibration, draws: Sequence[DrawnQuestions], scale: float
) -> dict[str, float]:
    """Return the errors of questions with equally many candidates."""
    cosines = np.concatenate([one.cosines for one in draws])
    place = np.concatenate([one.place for one in draws])
    hit = cosines.argmax(axis=1) == place
    verdicts = [calibration.judge_classes(row, scale) for row in cosines]
    refused = np.array([verdict.none_of_these for verdict in verdicts])
    plain = _softmax(cosines * scale).max(axis=1)
    mended = np.array([verdict.probabilities.max() for verdict in verdicts])
    numbers = {
        "ece": calibration_error(plain, hit),
        "ece_calibrated": calibration_error(mended, hit),
        "mistakes": float((~refused[place < 0]).mean()),
        "refusals": float(refused[place >= 0].mean()),
    }
    return {name: round(value, 4) for name, value in numbers.items()}


def calibration_error(confidence: Doubles, hit: Flags) -> float:
    """Return the expected calibration error over bins of equal width."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == b].mean() - hit[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def match_rows(askers: Rows, candidates: Rows, right: Flags) -> Matches:
    """Return the matches of unit rows."""
    return Matches((askers @ candidates.T).astype(np.float64), right)


def _draw_known(matches: Matches, seed: int) -> list[DrawnQuestions]:
    """Return questions that include a right answer, for each number of classes."""
    drawn = [draw_questions(matches, count, seed) for count in OFFERED]
    known = [
        DrawnQuestions(one.cosines[one.place >= 0], one.place[one.place >= 0]) for one in drawn
    ]
    return [one for one in known if len(one.place)]


def _surprise(draws: DrawnQuestions, scale: float) -> float:
    own = _softmax(draws.cosines * scale)[np.arange(len(draws.place)), draws.place]
    return float(-np.log(np.clip(own, 1e-12, 1)).mean())


def _softmax(logits: Doubles) -> Doubles:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _make_rising(found: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Return the evidence with limits and middles that never fall as candidates grow."""
    rising: list[Evidence] = []
    for one in found:
        before = rising[-1] if rising else one
        rising.append(
            Evidence(
                one.candidates,
                max(one.limit, before.limit),
                max(one.middle, before.middle),
                one.slope,
            )
        )
    return tuple(rising)
