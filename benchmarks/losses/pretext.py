"""Pretext tasks and the triplet loss, beside their papers' formulas."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy, mse_loss, normalize, relu

from losses.comparison import Pair, ask, draw, leaf
from twinlens.training.objectives.autoencoder import Autoencoder
from twinlens.training.objectives.colorize import Colorize
from twinlens.training.objectives.context import Context
from twinlens.training.objectives.jigsaw import Jigsaw
from twinlens.training.objectives.rotation import Rotation
from twinlens.training.objectives.triplet import Triplet
from twinlens.training.views.lab import find_bins

N, D, CELLS = 8, 12, 5


def list_formulas() -> dict[str, tuple[str, Callable[[], Pair]]]:
    """Return the comparisons: each with what, and how."""
    return {
        "rotation": ("equations 2 and 3, cross-entropy over the turns", _rotation),
        "jigsaw": ("torch's cross-entropy over the orders", _jigsaw),
        "context": ("torch's cross-entropy over the neighbours", _context),
        "colorize": ("equations 2 to 4, targets image by image", _colorize),
        "autoencoder": ("torch's squared error", _autoencoder),
        "triplet": ("section 3.2, triplet by triplet", _triplet),
    }


def _rotation() -> Pair:
    logits, terms = leaf(N, 4, 4), []
    for image in logits:
        odds_of = image.softmax(dim=1)
        terms.append(-sum(odds_of[turn, turn].log() for turn in range(4)) / 4)
    return Pair(ask(Rotation(), {"logits": logits}), torch.stack(list(terms)).mean(), (logits,))


def _jigsaw() -> Pair:
    logits, answer = leaf(N, 1, 100), torch.arange(N) * 11
    ours = ask(Jigsaw(), {"logits": logits}, extra={"answer": answer})
    return Pair(ours, cross_entropy(logits[:, 0], answer), (logits,))


def _context() -> Pair:
    logits, answer = leaf(N, 1, 8), torch.arange(N)
    ours = ask(Context(), {"logits": logits}, extra={"answer": answer})
    return Pair(ours, cross_entropy(logits[:, 0], answer), (logits,))


def _colorize() -> Pair:
    objective = Colorize(bin_side=20.0)
    bins = torch.from_numpy(find_bins(20.0))
    logits, colours = leaf(N, CELLS, len(bins)), 30 * draw(N, CELLS, 2, seed=1)
    shares, terms = draw(len(bins), seed=2).square(), []
    known = shares / shares.sum()
    weight = 1 / (0.5 * known + 0.5 / len(bins))
    weight = weight / (known * weight).sum()
    for i in range(N):
        for cell in range(CELLS):
            away = (bins - colours[i, cell]).norm(dim=1)
            near = away.argsort()[:5]
            kernel = torch.exp(-away[near].square() / (2 * 25))
            target = torch.zeros_like(away).scatter_(0, near, kernel / kernel.sum())
            terms.append(-weight[near[0]] * (target * logits[i, cell].log_softmax(0)).sum())
    rows = {"logits": logits, "shares": draw(N, len(bins), seed=3)}
    ours = ask(objective, rows, state={"shares": shares}, extra={"colours": colours})
    return Pair(ours, torch.stack(terms).mean(), (logits,))


def _autoencoder() -> Pair:
    pixels, target = leaf(N, 48), draw(N, 48, seed=1)
    ours = ask(Autoencoder(), {"pixels": pixels, "target": target})
    return Pair(ours, mse_loss(pixels, target), (pixels,))


def _triplet() -> Pair:
    z, labels, terms = leaf(N, 2, D), torch.arange(N) % 3, []
    rows, classes = normalize(z, dim=-1).flatten(0, 1), labels.repeat_interleave(2)
    for i, anchor in enumerate(rows):
        gaps = [(anchor - row).square().sum() for row in rows]
        foes = [gaps[j] for j in range(len(rows)) if classes[j] != classes[i]]
        for j in range(len(rows)):
            if j != i and classes[j] == classes[i]:
                beyond = [foe for foe in foes if foe > gaps[j]]
                chosen = min(beyond) if beyond else max(foes)
                terms.append(relu(gaps[j] - chosen + 0.2))
    ours = ask(Triplet(), {"z": z}, extra={"labels": labels})
    return Pair(ours, torch.stack(terms).mean(), (z,))
