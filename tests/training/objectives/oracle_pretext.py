"""Oracles of the pretext tasks and of the triplet loss, from the papers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.training.objectives.oracle import Array, Number, cross_entropy, log_sum_exp, unit

Given = NDArray[Any]


def answered(logits: Array, answers: Given) -> Number:
    """logits (n, questions, answers), answers (n, questions)."""
    found: Number = np.mean(
        [
            cross_entropy(logits[i, question], int(answers[i, question]))
            for i, question in np.ndindex(answers.shape)
        ]
    )
    return found


def rebuilt(pixels: Array, target: Array) -> Number:
    """pixels, target (n, values)."""
    found: Number = np.mean([((p - t) ** 2).mean() for p, t in zip(pixels, target, strict=True)])
    return found


def coloured(
    logits: Array,
    colours: Given,
    bins: Given,
    shares: Given,
    nearest: int,
    spread: float,
    even: float,
) -> Number:
    """logits (n, cells, q), colours (n, cells, 2), bins (q, 2), shares (q,) of any sum."""
    known = shares / shares.sum() if shares.sum() else np.full(len(bins), 1 / len(bins))
    rarity = 1 / ((1 - even) * known + even / len(bins))
    rarity = rarity / (known @ rarity)
    terms = []
    for i, cell in np.ndindex(colours.shape[:2]):
        away = np.linalg.norm(bins - colours[i, cell], axis=1)
        close = np.argsort(away)[:nearest]
        gaps = away[close] ** 2
        kernel = np.exp((gaps[0] - gaps) / (2 * spread**2))
        target = np.zeros(len(bins))
        target[close] = kernel / kernel.sum()
        row = logits[i, cell]
        terms.append(-rarity[close[0]] * (target * (row - log_sum_exp(row))).sum())
    found: Number = np.mean(terms)
    return found


def triplet(z: Array, labels: list[int], margin: float) -> Number:
    """z (n, 2, d)."""
    views = [(unit(row), label) for pair, label in zip(z, labels, strict=True) for row in pair]
    terms: list[Number] = []
    for a, (anchor, label) in enumerate(views):
        gaps = [((anchor - other) ** 2).sum() for other, _ in views]
        own = [gaps[b] for b, view in enumerate(views) if b != a and view[1] == label]
        foes = sorted(
            (gaps[b] for b, view in enumerate(views) if view[1] != label), key=lambda d: d.real
        )
        if not foes:
            continue
        for near in own:
            # Equal distances are equal up to rounding.
            beyond = [foe for foe in foes if foe.real > near.real + 1e-12]
            terms.append(near - (beyond[0] if beyond else foes[-1]) + margin)
    kept = [term if term.real > 0 else 0 * term for term in terms]
    found: Number = np.mean(kept) if kept else np.complex128(0)
    return found
