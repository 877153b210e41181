"""Losses with teachers, labels or a Gaussian, beside their papers' formulas."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, normalize

from losses.comparison import WARM, Pair, ask, draw, leaf
from twinlens.training.nn.gaussian import draw_directions
from twinlens.training.nn.teachers import TeacherSettings
from twinlens.training.objectives.distill import Distill
from twinlens.training.objectives.finetune import FineTune
from twinlens.training.objectives.lejepa import LeJEPA
from twinlens.training.objectives.mobileclip import MobileCLIP

N, D, DIMS, SCALES = 8, 12, (12, 6), (30.0, 100.0)
TEACHERS = TeacherSettings("two", dims=DIMS, scales=SCALES, texts=(True, True))


def list_formulas() -> dict[str, tuple[str, Callable[[], Pair]]]:
    """Return the comparisons: each with what, and how."""
    return {
        "lejepa": ("algorithms 1 and 2, the release's points", _lejepa),
        "finetune": ("torch's cross-entropy, smoothed, of two labels", _finetune),
        "distill": ("1 - cosine to the teachers' rows side by side", _distill),
        "mobileclip": ("equations 1 to 3, probabilities averaged", _mobileclip),
    }


def _lejepa() -> Pair:
    z, small, weight = leaf(N, 2, D), leaf(N, 3, D, seed=1), 0.05
    views = torch.cat([z, small], dim=1)
    lines = draw_directions(D, 16, WARM.step, z)
    t = torch.linspace(0, 3, 17, dtype=z.dtype)
    window, terms = torch.exp(-(t**2) / 2), []
    for view in views.unbind(1):
        for line in lines.unbind(1):
            found = torch.exp(1j * t * (view @ line)[:, None]).mean(dim=0)
            terms.append(2 * N * torch.trapezoid((found - window).abs() ** 2 * window, t))
    away = ((z.mean(dim=1, keepdim=True) - views) ** 2).mean()
    theirs = (1 - weight) * away + weight * torch.stack(terms).mean()
    ours = ask(LeJEPA(directions=16, dim=D), {"z": z, "small": small})
    return Pair(ours, theirs, (z, small))


def _finetune() -> Pair:
    z, rows, scale = leaf(N, D), leaf(5, D, seed=1), torch.tensor(9.0, dtype=torch.float64)
    labels, other, kept = torch.arange(N) % 5, (torch.arange(N) + 2) % 5, draw(N, seed=2).sigmoid()
    logits = scale * normalize(z, dim=1) @ normalize(rows, dim=1).mT
    terms = [
        kept[i] * cross_entropy(logits[i], labels[i], label_smoothing=0.1)
        + (1 - kept[i]) * cross_entropy(logits[i], other[i], label_smoothing=0.1)
        for i in range(N)
    ]
    ours = ask(
        FineTune(classes=5),
        {"z": z},
        shared={"classes": rows, "scale": scale},
        extra={"labels": labels, "other": other, "kept": kept},
    )
    return Pair(ours, torch.stack(terms).mean(), (z, rows))


def _distill() -> Pair:
    p, known = leaf(N, sum(DIMS)), draw(N, sum(DIMS), seed=1)
    ours = ask(Distill(TEACHERS), {"p": p}, extra={"teacher": known})
    return Pair(ours, (1 - cosine_similarity(p, known, dim=1)).mean(), (p,))


def _mobileclip() -> Pair:
    x, y, scale = leaf(N, D), leaf(N, D, seed=1), torch.tensor(20.0, dtype=torch.float64)
    images, texts = draw(N, sum(DIMS), seed=2), draw(N, sum(DIMS), seed=3)
    logits = scale * normalize(x, dim=1) @ normalize(y, dim=1).mT
    clip = (cross_entropy(logits, torch.arange(N)) + cross_entropy(logits.T, torch.arange(N))) / 2
    pairs = zip(images.split(DIMS, dim=1), texts.split(DIMS, dim=1), SCALES, strict=True)
    known = [sharp * normalize(a, dim=1) @ normalize(b, dim=1).mT for a, b, sharp in pairs]
    ways = [_gap([one.T for one in known], logits.T), _gap(known, logits)]
    theirs = 0.25 * clip + 0.75 * torch.stack(ways).mean()
    ours = ask(
        MobileCLIP(TEACHERS),
        {"x": x, "y": y},
        shared={"scale": scale},
        extra={"teacher": images, "teacher_text": texts},
    )
    return Pair(ours, theirs, (x, y))


def _gap(known: list[Tensor], logits: Tensor) -> Tensor:
    """Return the divergence of the teachers' mean probabilities from those of the logits."""
    probabilities = torch.stack([one.softmax(dim=1) for one in known]).mean(dim=0)
    return kl_div(logits.log_softmax(dim=1), probabilities, reduction="batchmean")
