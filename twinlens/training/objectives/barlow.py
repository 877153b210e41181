"""Barlow Twins: the cross-correlation of two views' embeddings becomes the identity.

Zbontar et al. 2021, https://arxiv.org/abs/2103.03230. With columns standardised over the batch,
    C = z_1^T z_2 / n,    loss = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.heads import mlp
from twinlens.training.objective import BatchRows, HealthSpec, LossInputs
from twinlens.training.objectives.projected import ProjectedViews
from twinlens.training.views.crops import Crops

EPS = 1e-5  # added to a column's variance, as BatchNorm does


@dataclass(frozen=True)
class BarlowTwins(ProjectedViews):
    """Redundancy reduction over two views."""

    name: ClassVar[str] = "barlow"
    summary: ClassVar[str] = "the correlation of two views' features becomes the identity"
    health: ClassVar[HealthSpec] = HealthSpec(head="z")

    off_diagonal: float = 0.0051  # lambda
    dim: int = 512
    scale: float = 1.0  # factor on the loss; LARS normalises it away except for biases and norms
    crops: Crops = field(
        default_factory=lambda: Crops(
            scale_min=0.08, saturation=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2)
        )
    )

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A wide three-layer projector."""
        sizes = (widths["image"], self.hidden, self.hidden, self.dim)
        return {"projector": mlp(sizes, last_bias=False)}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the distance of the cross-correlation from the identity, and its two parts."""
        first, second = (standardise(z) for z in inputs.student["z"].unbind(1))
        correlation = first.mT @ second / len(first)
        own = torch.eye(len(correlation), dtype=torch.bool, device=correlation.device)
        invariance = (1 - correlation.diagonal()).square().sum()
        redundancy = correlation.masked_fill(own, 0).square().sum()
        loss = self.scale * (invariance + self.off_diagonal * redundancy)
        return {"loss": loss, "invariance": invariance, "redundancy": redundancy}

    def chance(self, batch: int) -> float:
        """D: constant features correlate with nothing."""
        return self.scale * self.dim


def standardise(rows: Tensor) -> Tensor:
    """Return rows (n, d) whose columns have mean 0 and variance 1; a constant column stays 0."""
    var, mean = torch.var_mean(rows, dim=0, correction=0)
    return (rows - mean) * (var + EPS).rsqrt()
