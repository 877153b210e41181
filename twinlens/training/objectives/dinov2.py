"""DINOv2: iBOT with heads of their own for patches, and a term that spreads images apart.

Oquab et al. 2023, https://arxiv.org/abs/2304.07193; KoLeo: Sablayrolles et al. 2018,
https://arxiv.org/abs/1806.03198. With unit class tokens x of each large crop,
    KoLeo = -mean_i log(min over j != i of |x_i - x_j| + 1e-8),    loss = iBOT + 0.1 KoLeo.
Targets are sharpened and centred as in DINO, the patches' by the mean of hidden ones alone, or
balanced by three rounds of Sinkhorn-Knopp: class tokens of both large crops together, and the
hidden patches of all crops together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from twinlens.training.nn.assignment import balance_assignments
from twinlens.training.objective import BatchRows, Centre, Declaration, LossInputs, unit
from twinlens.training.objectives.ibot import IBOT

EPS = 1e-8


@dataclass(frozen=True)
class DINOv2(IBOT):
    """iBOT with KoLeo."""

    name: ClassVar[str] = "dinov2"
    summary: ClassVar[str] = "iBOT plus KoLeo, which spreads images apart; needs a vit"
    coupled: ClassVar[bool] = True  # by KoLeo, and by Sinkhorn
    centre_sees_all: ClassVar[bool] = False

    separate: bool = True
    koleo: float = 0.1
    centring: Literal["mean", "sinkhorn"] = "mean"
    iterations: int = 3  # of Sinkhorn

    def state(self) -> tuple[Declaration, ...]:
        """The EMA teacher, and the centres if targets are centred."""
        items = super().state()
        if self.centring == "mean":
            return items
        return tuple(item for item in items if not isinstance(item, Centre))

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return iBOT's loss and KoLeo, summed over the two large crops."""
        terms = super().loss(inputs)
        koleo = torch.stack([crowding(x) for x in inputs.student["x"].unbind(1)]).sum()
        return {**terms, "loss": terms["loss"] + self.koleo * koleo, "koleo": koleo}

    def _crop_targets(self, inputs: LossInputs) -> Tensor:
        if self.centring == "mean":
            return super()._crop_targets(inputs)
        scores = inputs.teacher["logits"] / self.teacher_temperature.at(inputs.progress)
        balanced = balance_assignments(scores.flatten(0, 1), self.iterations)
        return balanced.view_as(scores).to(scores.dtype)

    def _patch_targets(self, inputs: LossInputs) -> Callable[[slice], Tensor]:
        if self.centring == "mean":
            return super()._patch_targets(inputs)
        rows = inputs.teacher["patches"][inputs.extra["mask"]]
        scores = rows @ inputs.teacher_shared["patch_prototypes"].mT
        sharp = self.patch_temperature.at(inputs.progress)
        balanced = balance_assignments(scores / sharp, self.iterations).to(scores.dtype)
        return lambda some: balanced[some]


def crowding(x: Tensor) -> Tensor:
    """Return KoLeo of rows (n, d): large where a row's nearest neighbour is close."""
    rows = unit(x)
    with torch.no_grad():
        nearest = (rows @ rows.mT).fill_diagonal_(-2).argmax(dim=1)
    # Clamped before the root: duplicates have distance 0, where the gradient is undefined.
    squared = (rows - rows[nearest]).square().sum(dim=1).clamp(min=EPS**2)
    return -(squared.sqrt() + EPS).log().mean()
