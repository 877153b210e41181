"""From embeddings and a class bank to labels, best first. Scores come from the similarity node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.calibration.calibration import CosineVerdict
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.zeroshot.banks import ClassBank

# Below this the ratio of two softmax scores has no precision left.
_TINY = 1e-30


@dataclass(frozen=True)
class Scoring:
    """Options of a zero-shot answer."""

    top_k: int | None = None
    multi_label: bool = False
    # A similarity; True: the calibration's limit, or without one the neutral prompt's similarity;
    # None: as True if the bundle is calibrated, else off.
    none_of_these: float | bool | None = None


def score(
    model: ServedModel, embeddings: Rows, bank: ClassBank, scoring: Scoring
) -> list[dict[str, Any]]:
    """Return each embedding's labels, best first, and whether none of them fits.

    Of a calibrated bundle each label has a calibrated probability too; the order is the scores'.
    """
    similarity = model.encoder.manifest.similarity
    is_softmax, scale = similarity.kind == "softmax", similarity.scale
    calibration = model.calibration
    asks_neutral = scoring.none_of_these is True and calibration is None
    if not (scoring.multi_label and is_softmax) and not asks_neutral:
        scores, similarities = model.encoder.classify(embeddings, bank.rows)
        neutral = None
    else:
        scores, similarities, neutral = _with_neutral(model, embeddings, bank, scoring, is_softmax)
    verdicts: list[CosineVerdict | None] = [None] * len(embeddings)
    if calibration is not None:
        alone = scoring.multi_label
        verdicts = [
            calibration.judge_classes(one, scale, level=level, independent=alone)
            for one, level in zip(similarities, calibration.find_levels(embeddings), strict=True)
        ]
    return [
        _label(bank.names, scores[i], similarities[i], scoring, _at(neutral, i), verdicts[i])
        for i in range(len(embeddings))
    ]


def _with_neutral(
    model: ServedModel, embeddings: Rows, bank: ClassBank, scoring: Scoring, is_softmax: bool
) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Score with the neutral row as one more class.

    A softmax is relative, so each class is scored against the neutral prompt alone:
    p / (p + p_neutral), the softmax over the two, independent of the other classes.
    """
    rows = np.concatenate([bank.rows, bank.neutral[None]])
    scores, similarities = model.encoder.classify(embeddings, rows)
    neutral = similarities[:, -1]
    if is_softmax and scoring.multi_label:
        both = scores[:, :-1] + scores[:, -1:]
        scale = model.encoder.manifest.similarity.scale
        gap = np.clip(scale * (similarities[:, :-1] - similarities[:, -1:]), -80, 80)
        independent = np.where(both > _TINY, scores[:, :-1] / np.maximum(both, _TINY), 0)
        scores = np.where(both > _TINY, independent, 1 / (1 + np.exp(-gap)))
    elif is_softmax:
        scores, _ = model.encoder.classify(embeddings, bank.rows)
    else:
        scores = scores[:, :-1]
    return np.asarray(scores, dtype=np.float32), similarities[:, :-1], neutral


def _label(
    names: tuple[str, ...],
    scores: NDArray[np.float32],
    similarities: NDArray[np.float32],
    scoring: Scoring,
    neutral: float | None,
    verdict: CosineVerdict | None,
) -> dict[str, Any]:
    """Return the labels of one item."""
    order = np.argsort(-scores, kind="stable")
    if scoring.top_k is not None:
        order = order[: scoring.top_k]
    labels = [
        {
            "label": names[i],
            "index": i,
            "score": float(scores[i]),
            "similarity": float(similarities[i]),
        }
        | ({} if verdict is None else {"calibrated": float(verdict.probabilities[i])})
        for i in order.tolist()
    ]
    answer: dict[str, Any] = {"labels": labels}
    asked = scoring.none_of_these
    if verdict is not None and (asked is None or asked is True):
        answer["none_of_these"] = verdict.none_of_these
    elif asked is not None and asked is not False:
        threshold = neutral if asked is True else asked
        answer["none_of_these"] = bool(similarities.max() < (threshold or 0.0))
    return answer


def _at(values: NDArray[np.float32] | None, index: int) -> float | None:
    return None if values is None else float(values[index])
