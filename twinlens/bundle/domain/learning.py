"""Learns a domain sign from pictures of the domain, and measures its false alarms on other ones.

A logistic regression separates embeddings of the domain's pictures from those of outliers made of
them; limits come from pictures that the regression did not see. What must stay true: reference
pictures, those that set the limits and those that measure false alarms are three sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels, Rows
from twinlens.bundle.domain.domain_sign import DomainSign
from twinlens.bundle.domain.outliers import make_outliers
from twinlens.errors import InputError

SAMPLE_SIZES = (1, 2, 4, 8, 16, 32, 64)
LEAST_PICTURES = 200  # a smaller group cannot show a share of 2 %
MOST_REFERENCES = 4000  # per group
FALSE_ALARMS = 0.015  # target when limits are set; the promise is 0.02
_OUTLIERS = 4500
_DRAWS = 4000
_RIDGE = 0.3
_STEPS = 15


class PixelEncoder(Protocol):
    """The encoder's stage that learning needs."""

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return unit rows of pixels (n, height, width, 3)."""


def learn_sign(
    encoder: PixelEncoder,
    references: Mapping[str, Pixels],
    limiting: Mapping[str, Pixels],
    measuring: Mapping[str, Pixels],
    seed: int = 0,
) -> DomainSign:
    """Return the sign of the domain, learned from the groups of `references`.

    `limiting` and `measuring` hold other pictures of the same groups.
    """
    chosen = {name: _choose(pixels, seed) for name, pixels in references.items()}
    own = [encoder.encode_pixels(pixels) for pixels in chosen.values()]
    outliers = encoder.encode_pixels(make_outliers(list(chosen.values()), _OUTLIERS, seed))
    solution = _separate(own, outliers)
    weights = solution[:-1].astype(np.float16).astype(np.float32)  # as they are stored
    sign = DomainSign(weights, float(solution[-1]), ((1, 0.0),))
    scores = [sign.score(encoder.encode_pixels(pixels)) for pixels in limiting.values()]
    measured = {name: encoder.encode_pixels(pixels) for name, pixels in measuring.items()}
    limited = DomainSign(weights, sign.bias, _set_limits(scores, seed))
    return DomainSign(
        weights,
        sign.bias,
        limited.limits,
        {name: len(pixels) for name, pixels in chosen.items()},
        {name: count_alarms(limited, rows) for name, rows in measured.items()},
    )


def count_alarms(sign: DomainSign, rows: Rows, seed: int = 1) -> dict[str, float]:
    """Return the share of samples of these embeddings that the sign calls far, by sample size."""
    scores = sign.score(rows)
    return {
        str(size): round(float((_draw_means(scores, size, seed) > limit).mean()), 4)
        for size, limit in sign.limits
    }


def split_pictures(pixels: Pixels, seed: int = 0) -> tuple[Pixels, Pixels, Pixels]:
    """Return three sets for learning, limits and measuring: one half and two quarters."""
    if len(pixels) < LEAST_PICTURES:
        raise InputError(
            f"a group has {len(pixels)} pictures; a domain sign needs at least {LEAST_PICTURES} in"
            " each: add pictures, or put small groups into one folder",
            field="domain",
        )
    order = np.random.default_rng(seed).permutation(len(pixels))
    half, quarter = len(pixels) // 2, len(pixels) // 4
    parts = (order[:half], order[half : half + quarter], order[half + quarter :])
    return pixels[parts[0]], pixels[parts[1]], pixels[parts[2]]


def _choose(pixels: Pixels, seed: int) -> Pixels:
    if len(pixels) <= MOST_REFERENCES:
        return pixels
    chosen = np.random.default_rng(seed).choice(len(pixels), MOST_REFERENCES, replace=False)
    return pixels[np.sort(chosen)]


def _separate(own: Sequence[Rows], outliers: Rows) -> NDArray[np.float64]:
    """Return weights and bias of a logistic regression; groups weigh alike, outliers as all."""
    rows = np.concatenate([*own, outliers]).astype(np.float64)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    shares = [np.full(len(part), 0.5 / len(own) / len(part)) for part in own]
    weight = np.concatenate([*shares, np.full(len(outliers), 0.5 / len(outliers))]) * len(rows)
    target = np.r_[np.zeros(len(rows) - len(outliers)), np.ones(len(outliers))]
    solution = np.zeros(rows.shape[1])
    for _ in range(_STEPS):  # Newton's method
        chance = 1 / (1 + np.exp(-np.clip(rows @ solution, -30, 30)))
        slope = rows.T @ (weight * (chance - target)) + _RIDGE * solution
        curvature = (rows * (weight * chance * (1 - chance) + 1e-9)[:, None]).T @ rows
        solution -= np.linalg.solve(curvature + _RIDGE * np.eye(len(solution)), slope)
    return solution


def _set_limits(groups: Sequence[NDArray[np.float32]], seed: int) -> tuple[tuple[int, float], ...]:
    """Return the limit of each sample size: the highest over groups."""
    return tuple(
        (
            size,
            max(
                float(np.quantile(_draw_means(scores, size, seed), 1 - FALSE_ALARMS))
                for scores in groups
            ),
        )
        for size in SAMPLE_SIZES
    )


def _draw_means(scores: NDArray[np.float32], size: int, seed: int) -> NDArray[np.float32]:
    """Return the mean scores of samples of `size` pictures; for one picture, every score."""
    if size == 1:
        return scores
    chosen = np.random.default_rng(seed).integers(0, len(scores), (_DRAWS, size))
    means: NDArray[np.float32] = scores[chosen].mean(1)
    return means
