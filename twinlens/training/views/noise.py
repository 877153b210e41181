"""Noise on views: Gaussian, or pixels that are put out; drawn on the CPU like all else of a view.

Vincent et al. 2008 and 2010. What must stay true: with no noise the views are as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """How the views `global` are spoilt; what they were is `clean` (n, 3, s, s).

    `amount` is the deviation of what is added to normalised pixels, or the share that is put out.
    """

    kind: Literal["gaussian", "masking"]
    amount: float


def add_noise(views: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """Return views (n, 3, s, s) with noise on them."""
    if noise.kind == "gaussian":
        drawn = torch.randn(views.shape, generator=generator)
        return views + noise.amount * drawn.to(views)
    n, _, tall, wide = views.shape
    kept = torch.rand((n, 1, tall, wide), generator=generator) >= noise.amount
    return views * kept.to(views)
