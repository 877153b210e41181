"""The losses once more, in NumPy and from the papers alone; gradients by complex steps.

f(x + ih) has f'(x) h as its imaginary part to the last bit of float64 (no subtraction, so no
cancellation); all that is needed is that f is written with analytic functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.complex128]
Number = Any  # a complex scalar: NumPy types them too loosely to help
Rows = dict[str, Array]
STEP = 1e-30


def slopes(loss: Callable[[Rows], Number], rows: Rows) -> dict[str, NDArray[np.float64]]:
    """Return d loss / d rows, by complex steps."""
    found = {}
    for name, values in rows.items():
        slope = np.zeros(values.shape)
        for place in np.ndindex(values.shape):
            moved = values.copy()
            moved[place] += 1j * STEP
            slope[place] = loss({**rows, name: moved}).imag / STEP
        found[name] = slope
    return found


def unit(rows: Array) -> Array:
    # Not abs or norm: those are not analytic.
    out: Array = rows / np.sqrt((rows * rows).sum(axis=-1, keepdims=True))
    return out


def log_sum_exp(values: Array) -> Number:
    top = values.real.max()
    total: Number = np.log(np.exp(values - top).sum()) + top
    return total


def softplus(value: Number) -> Number:
    grown: Number = value + np.log1p(np.exp(-value)) if value.real > 0 else np.log1p(np.exp(value))
    return grown


def cross_entropy(logits: Array, target: int) -> Number:
    found: Number = log_sum_exp(logits) - logits[target]
    return found


def nt_xent(z: Array, temperature: float) -> Number:
    """z (n, 2, d)."""
    n = len(z)
    views = [unit(z[i, v]) for v in range(2) for i in range(n)]
    total = np.complex128(0)
    for a in range(2 * n):
        others = [b for b in range(2 * n) if b != a]
        logits = np.array([views[a] @ views[b] / temperature for b in others])
        total += cross_entropy(logits, others.index((a + n) % (2 * n)))
    return total / (2 * n)


def supcon(z: Array, labels: list[int], temperature: float, base: float) -> Number:
    """z (n, 2, d)."""
    views = [(unit(row), label) for pair, label in zip(z, labels, strict=True) for row in pair]
    asked = []
    for a, (own, label) in enumerate(views):
        others = [b for b in range(len(views)) if b != a]
        logits = np.array([own @ views[b][0] / temperature for b in others])
        positives = [at for at, b in enumerate(others) if views[b][1] == label]
        if positives:
            asked.append(np.mean([cross_entropy(logits, at) for at in positives]))
    found: Number = temperature / base * np.mean(asked)
    return found


def moco(
    q: Array,
    k: Array,
    queue: NDArray[np.float64],
    temperature: float,
) -> Number:
    """q, k (n, v, d); queue (size, d)."""
    losses = []
    for query, key in zip(q.reshape(-1, q.shape[-1]), k.reshape(-1, k.shape[-1]), strict=True):
        candidates = [unit(key), *(unit(row.astype(complex)) for row in queue)]
        logits = np.array([unit(query) @ row / temperature for row in candidates])
        losses.append(cross_entropy(logits, 0))
    found: Number = np.mean(losses)
    return found


def mocov3(q: Array, k: Array, temperature: float) -> Number:
    """q, k (n, 2, d)."""
    total = np.complex128(0)
    for asking, answering in ((0, 1), (1, 0)):
        for i in range(len(q)):
            logits = [
                unit(q[i, asking]) @ unit(k[j, answering]) / temperature for j in range(len(k))
            ]
            total += 2 * temperature * cross_entropy(np.array(logits), i) / len(q)
    return total


def byol(p: Array, z: Array) -> Number:
    """p, z (n, 2, d)."""
    total = np.complex128(0)
    for i in range(len(p)):
        for view in range(2):
            gap = unit(p[i, view]) - unit(z[i, 1 - view])
            total += (gap * gap).sum() / len(p)
    return total


def dino(
    student: Array,
    teacher: Array,
    centre: NDArray[np.float64],
    cold: float,
    warm: float,
) -> Number:
    """student (n, v, k), teacher (n, 2, k)."""
    terms = []
    for i in range(len(student)):
        for t in range(2):
            sharp = (teacher[i, t] - centre) / cold
            target = np.exp(sharp - log_sum_exp(sharp))
            for v in range(student.shape[1]):
                if v != t:
                    scaled = student[i, v] / warm
                    terms.append(-(target * (scaled - log_sum_exp(scaled))).sum())
    found: Number = np.mean(terms)
    return found


def clip(x: Array, y: Array, scale: Number) -> Number:
    """x, y (n, d)."""
    n = len(x)
    logits = np.array([[scale * (unit(a) @ unit(b)) for b in y] for a in x])
    rows = sum(cross_entropy(logits[i], i) for i in range(n))
    columns = sum(cross_entropy(logits[:, i], i) for i in range(n))
    found: Number = (rows + columns) / (2 * n)
    return found


def siglip(
    x: Array,
    y: Array,
    scale: Number,
    bias: Number,
) -> Number:
    """x, y (n, d)."""
    total = np.complex128(0)
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            logit = scale * (unit(a) @ unit(b)) + bias
            total += softplus(-logit if i == j else logit)
    found: Number = total / len(x)
    return found
