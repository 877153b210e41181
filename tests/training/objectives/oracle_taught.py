"""Oracles of the methods that learn from teachers, labels or a Gaussian, from the papers alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.training.objectives.oracle import Array, Number, log_sum_exp, unit

Given = NDArray[Any]


def lejepa(
    views: Array, large: int, lines: Array, reach: float, points: int, weight: float
) -> Number:
    """views (n, v, d), the first `large` of them the large ones; lines (d, m) of length 1.

    The integral runs over both sides of 0, by the trapezoid rule.
    """
    n, count, _ = views.shape
    middle = views[:, :large].mean(axis=1)
    away: Number = np.mean([(views[:, v] - middle) ** 2 for v in range(count)])
    ts = np.linspace(-reach, reach, 2 * points - 1)
    step, total = ts[1] - ts[0], np.complex128(0)
    for v in range(count):
        for line in lines.T:
            on_line = views[:, v] @ line
            for t in ts:
                real, imaginary = np.cos(t * on_line).mean(), np.sin(t * on_line).mean()
                normal = np.exp(-t * t / 2)
                gap = (real - normal) ** 2 + imaginary**2
                total += n * gap * normal * step * (0.5 if abs(t) == reach else 1.0)
    gaussian = total / (count * lines.shape[1])
    return (1 - weight) * away + weight * gaussian


def finetune(
    z: Array,
    rows: Array,
    scale: Number,
    labels: list[int],
    other: Given,
    kept: Given,
    smoothing: float,
) -> Number:
    """z (n, d), rows (k, d)."""
    total = np.complex128(0)
    for i, image in enumerate(z):
        logits = np.array([scale * (unit(image) @ unit(row)) for row in rows])
        wanted = np.full(len(rows), smoothing / len(rows))
        wanted[labels[i]] += (1 - smoothing) * kept[i]
        wanted[int(other[i])] += (1 - smoothing) * (1 - kept[i])
        total -= (wanted * (logits - log_sum_exp(logits))).sum() / len(z)
    return total


def apart(one: Array, other: Array) -> Number:
    """Two rows: 1 - cosine."""
    found: Number = 1 - unit(one) @ unit(other)
    return found


def distilled_divergence(
    x: Array, y: Array, teachers: list[tuple[Array, Array, float]], scale: Number
) -> Number:
    """KL from the teachers' mean probabilities to those of rows x over columns y."""
    total, n = np.complex128(0), len(x)
    for i in range(n):
        probabilities = np.zeros(n)
        for images, texts, sharp in teachers:
            logits = np.array([sharp * (unit(images[i]) @ unit(text)).real for text in texts])
            probabilities += np.exp(logits - log_sum_exp(logits)).real / len(teachers)
        logits = np.array([scale * (unit(x[i]) @ unit(text)) for text in y])
        logs = logits - log_sum_exp(logits)
        known = sum(p * np.log(p) for p in probabilities if p > 0)
        total += (known - (probabilities * logs).sum()) / n
    return total
