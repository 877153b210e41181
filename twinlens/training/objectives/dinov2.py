"""DINOv2: iBOT with heads of their own for patches, and a term that spreads images apart.

Oquab et al. 2023, https://arxiv.org/abs/2304.07193; KoLeo: Sablayrolles et al. 2018,
https://arxiv.org/abs/1806.03198. With unit class tokens x of each large crop,
    KoLeo = -mean_i log(min over j != i of |x_i - x_j| + 1e-8),    loss = iBOT + 0.1 KoLeo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from twinlens.training.objective import Given, Rows, unit
from twinlens.training.objectives.ibot import IBOT

EPS = 1e-8


@dataclass(frozen=True)
class DINOv2(IBOT):
    """iBOT with KoLeo."""

    name: ClassVar[str] = "dinov2"
    summary: ClassVar[str] = "iBOT, and images keep their distance (KoLeo); needs a vit"
    coupled: ClassVar[bool] = True  # by KoLeo

    separate: bool = True
    koleo: float = 0.1

    def loss(self, given: Given) -> Rows:
        """Return iBOT's loss and KoLeo, summed over the two large crops."""
        terms = super().loss(given)
        koleo = torch.stack([crowding(x) for x in given.student["x"].unbind(1)]).sum()
        return {**terms, "loss": terms["loss"] + self.koleo * koleo, "koleo": koleo}


def crowding(x: Tensor) -> Tensor:
    """Return KoLeo of rows (n, d): large where a row's nearest neighbour is close."""
    rows = unit(x)
    with torch.no_grad():
        nearest = (rows @ rows.mT).fill_diagonal_(-2).argmax(dim=1)
    # Clamped before the root: duplicates have distance 0, and no direction to be pushed in.
    squared = (rows - rows[nearest]).square().sum(dim=1).clamp(min=EPS**2)
    return -(squared.sqrt() + EPS).log().mean()
