"""The contrastive losses for the objectives; the only module that knows the kernels behind them.

They are exact, with memory linear in the batch. All normalise their rows; `scale` is 1 /
temperature.
"""

from __future__ import annotations

from torch import Tensor

from twinlens.kernels.loss import (
    clip_loss,
    contrastive_loss,
    moco_loss,
    nt_xent_loss,
    siglip_loss,
    supcon_loss,
)

__all__ = [
    "clip_loss",
    "moco_loss",
    "nt_xent_loss",
    "one_way_loss",
    "siglip_loss",
    "supcon_loss",
]


def one_way_loss(x: Tensor, y: Tensor, scale: Tensor | float) -> Tensor:
    """Return InfoNCE in one direction: row i of x must find row i of y."""
    return contrastive_loss(x, y, scale, symmetric=False)
