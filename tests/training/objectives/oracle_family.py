"""Oracles of the younger methods, from the papers alone; `.real` is where a gradient stops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.training.objectives.oracle import Array, Number, dino, log_sum_exp, unit


def simsiam(p: Array, z: Array) -> Number:
    """p, z (n, 2, d)."""
    total = np.complex128(0)
    for i in range(len(p)):
        for view in range(2):
            target = unit(z[i, 1 - view].real.astype(complex))
            total -= (unit(p[i, view]) * target).sum() / 2
    return total / len(p)


def barlow(z: Array, off_diagonal: float) -> Number:
    """z (n, 2, d)."""
    n, _, d = z.shape
    columns = [[z[:, view, j] for j in range(d)] for view in range(2)]
    for view in range(2):
        for j in range(d):
            centred = columns[view][j] - columns[view][j].mean()
            columns[view][j] = centred / np.sqrt((centred * centred).sum() / n + 1e-5)
    total = np.complex128(0)
    for i in range(d):
        for j in range(d):
            c = (columns[0][i] * columns[1][j]).sum() / n
            total += (1 - c) ** 2 if i == j else off_diagonal * c * c
    return total


def vicreg(z: Array) -> Number:
    """z (n, 2, d)."""
    n, _, d = z.shape
    gaps = z[:, 0] - z[:, 1]
    total = 25 * (gaps * gaps).sum() / (n * d)
    for view in range(2):
        centred = z[:, view] - z[:, view].mean(axis=0)
        covariance = np.array(
            [[(centred[:, i] * centred[:, j]).sum() / (n - 1) for j in range(d)] for i in range(d)]
        )
        for i in range(d):
            short = 1 - np.sqrt(covariance[i, i] + 1e-4)
            total += 25 / 2 * (short if short.real > 0 else 0) / d
            total += sum(covariance[i, j] ** 2 for j in range(d) if j != i) / d
    found: Number = total
    return found


def sinkhorn(scores: NDArray[np.float64], rounds: int = 3) -> NDArray[np.float64]:
    """scores (n, k), already divided by the temperature; sums in plain exponentials."""
    q = np.exp(scores - scores.max())
    for _ in range(rounds):
        q = q / q.sum(axis=0, keepdims=True)
        q = q / q.sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = q
    return found


def swav(
    z: Array,
    small: Array,
    prototypes: Array,
    queues: list[NDArray[np.float64]],
    temperature: float,
    sharpness: float,
) -> Number:
    """z (n, 2, d), small (n, v, d), a queue (m, d) of each large crop."""
    n = len(z)
    crops = [z[:, 0], z[:, 1], *(small[:, v] for v in range(small.shape[1]))]
    terms = []
    for t in range(2):
        rows = np.concatenate([unit(queues[t].astype(complex)).real, unit(crops[t]).real])
        q = sinkhorn(rows @ prototypes.real.T / sharpness)[-n:]
        for v, crop in enumerate(crops):
            if v == t:
                continue
            for i in range(n):
                scaled = prototypes @ unit(crop[i]) / temperature
                terms.append(-(q[i] * (scaled - log_sum_exp(scaled))).sum())
    found: Number = np.mean(terms)
    return found


Mask = NDArray[np.bool_]


def painted(pixels: Array, target: Array, mask: Mask, power: int) -> Number:
    """pixels, target (n, p, values), mask (n, 1, p); power 2: MAE, 1: SimMIM."""
    per_image = []
    for i in range(len(pixels)):
        errors = []
        for place in np.flatnonzero(mask[i, 0]):
            gap = pixels[i, place] - target[i, place]
            errors.append((gap * np.sign(gap.real) if power == 1 else gap * gap).mean())
        per_image.append(np.mean(errors))
    found: Number = np.mean(per_image)
    return found


def ibot(
    logits: Array,
    patches: Array,
    teacher_rows: dict[str, Array],
    centres: dict[str, NDArray[np.float64]],
    mask: Mask,
    cold: float,
    warm: float,
) -> Number:
    """logits (n, v, k), patches (n, 2, p, k), mask (n, 2, p)."""
    crops = dino(logits, teacher_rows["logits"], centres["centre"], cold, warm)
    terms = []
    for i in range(len(patches)):
        for view in range(2):
            errors = []
            for place in np.flatnonzero(mask[i, view]):
                sharp = (teacher_rows["patches"][i, view, place] - centres["patch_centre"]) / cold
                target = np.exp(sharp - log_sum_exp(sharp))
                scaled = patches[i, view, place] / warm
                errors.append(-(target * (scaled - log_sum_exp(scaled))).sum())
            terms.append(sum(errors) / max(1, len(errors)))
    found: Number = crops + np.mean(terms)
    return found


def ibot_balanced(
    logits: Array,
    patches: Array,
    teacher_rows: dict[str, NDArray[np.float64]],
    mask: Mask,
    cold: float,
    warm: float,
) -> Number:
    """Targets by Sinkhorn: class tokens of both crops together, hidden patches together."""
    n, views = len(logits), logits.shape[1]
    crops = teacher_rows["logits"]
    q = sinkhorn(crops.reshape(-1, crops.shape[-1]) / cold).reshape(crops.shape)
    terms = []
    for i in range(n):
        for t in range(2):
            for v in range(views):
                if v != t:
                    scaled = logits[i, v] / warm
                    terms.append(-(q[i, t] * (scaled - log_sum_exp(scaled))).sum())
    places = np.argwhere(mask)
    hidden = sinkhorn(np.array([teacher_rows["patches"][tuple(place)] for place in places]) / cold)
    errors = np.zeros(mask.shape, dtype=complex)
    for target, place in zip(hidden, map(tuple, places), strict=True):
        scaled = patches[place] / warm
        errors[place] = -(target * (scaled - log_sum_exp(scaled))).sum()
    per_crop = errors.sum(axis=-1) / np.maximum(1, mask.sum(axis=-1))
    found: Number = np.mean(terms) + per_crop.mean()
    return found


def clip_with_negatives(x: Array, y: Array, wrong: Array, scale: Number) -> Number:
    """x, y (n, d), wrong (n, h, d): an image chooses among all texts, a text among the images."""
    total: Number = np.complex128(0)
    images, texts = [unit(row) for row in x], [unit(row) for row in y]
    lures = [unit(row) for own in wrong for row in own]
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        chosen = scale * np.array([image @ other for other in [*texts, *lures]])
        found = scale * np.array([text @ other for other in images])
        total += log_sum_exp(chosen) - chosen[i] + log_sum_exp(found) - found[i]
    return total / (2 * len(x))


def koleo(x: Array) -> Number:
    """x (n, 2, d)."""
    total = np.complex128(0)
    for view in range(2):
        rows = [unit(row) for row in x[:, view]]
        for i, own in enumerate(rows):
            gaps = [((own - other) ** 2).sum() for j, other in enumerate(rows) if j != i]
            squared = min(gaps, key=lambda gap: float(gap.real))
            root = np.sqrt(squared) if squared.real > 1e-16 else 1e-8
            total -= np.log(root + 1e-8) / len(x)
    return total


def devise(x: Array, y: Array, margin: float) -> Number:
    """x, y (n, d)."""
    total: Number = np.complex128(0)
    for i, image in enumerate(x):
        own = unit(image) @ unit(y[i])
        for j, text in enumerate(y):
            short = margin - own + unit(image) @ unit(text)
            if j != i and short.real > 0:
                total += short / len(x)
    return total


def margin_contrast(z: Array, labels: list[int], margin: float) -> Number:
    """z (n, 2, d)."""
    views = [(unit(row), label) for pair, label in zip(z, labels, strict=True) for row in pair]
    terms = []
    for a, (own, label) in enumerate(views):
        for other, another in views[a + 1 :]:
            squared = ((own - other) ** 2).sum()
            short = margin - np.sqrt(squared + 1e-12)
            if label == another:
                terms.append(squared)
            else:
                terms.append(short**2 if short.real > 0 else 0 * short)
    found: Number = np.mean(terms)
    return found


def cpc(p: Array, z: Array, grid: int, ahead: int, temperature: float) -> Number:
    """p, z (n, questions, d), the questions by distance, row and column."""
    losses, start = [], 0
    for k in range(1, ahead + 1):
        stop = start + (grid - k) * grid
        asked, answers = (unit(rows[:, start:stop].reshape(-1, rows.shape[-1])) for rows in (p, z))
        start = stop
        logits = asked @ answers.T / temperature
        losses.append(np.mean([log_sum_exp(row) - row[i] for i, row in enumerate(logits)]))
    found: Number = np.mean(losses)
    return found


def beit(logits: Array, codes: NDArray[np.int64], mask: Mask) -> Number:
    """logits (n, p, k), codes (n, p), mask (n, 1, p)."""
    per_image = [
        np.mean(
            [
                log_sum_exp(logits[i, place]) - logits[i, place, codes[i, place]]
                for place in np.flatnonzero(mask[i, 0])
            ]
        )
        for i in range(len(logits))
    ]
    found: Number = np.mean(per_image)
    return found
