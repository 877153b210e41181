"""Noise on views: Gaussian, or masked pixels; drawn on the CPU like everything else of a view.

Vincent et al. 2008 and 2010. What must stay true: without noise the views are unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """How the views `global` are corrupted; the originals are `clean` (n, 3, s, s).

    `amount` is the standard deviation added to normalised pixels, or the share of masked pixels.
    """

    kind: Literal["gaussian", "masking"]
    amount: float


def add_noise(views: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """Return views (n, 3, s, s) with noise added."""
    if noise.kind == "gaussian":
        drawn = torch.randn(views.shape, generator=generator)
        return views + noise.amount * drawn.to(views)
    n, _, tall, wide = views.shape
    kept = torch.rand((n, 1, tall, wide), generator=generator) >= noise.amount
    return views * kept.to(views)
