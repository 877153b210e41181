"""The contrastive losses, as the objectives see them: the one place that knows who computes them.

They are the kernels' own, exact and with memory linear in the batch. All normalise their rows;
`scale` is 1 / temperature.
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
    """Return InfoNCE from rows to columns alone: row i of x looks for row i of y."""
    return contrastive_loss(x, y, scale, symmetric=False)
