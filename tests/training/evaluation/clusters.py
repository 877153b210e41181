"""Labelled rows around random centres."""

from __future__ import annotations

import torch
from torch import Tensor

from twinlens.training.seeds import generator


def clusters(n: int, d: int, classes: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return rows (n, d) of some classes and their labels; the centres are always the same."""
    draws = generator(seed)
    centres = torch.randn(classes, d, generator=generator(99))
    labels = torch.randint(0, classes, (n,), generator=draws)
    return centres[labels] + noise * torch.randn(n, d, generator=draws), labels
