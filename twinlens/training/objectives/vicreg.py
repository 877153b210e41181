"""VICReg: views agree (invariance), features vary (variance) and do not repeat (covariance).

Bardes et al. 2021, https://arxiv.org/abs/2105.04906. For embeddings z_1, z_2 (n, D),
    loss = 25 mean (z_1 - z_2)^2 + 25 / 2 sum over views of mean_j relu(1 - sqrt(var_j + 1e-4))
           + sum over views of sum_{i != j} cov_ij^2 / D.
The variance term is averaged over the two views, the covariance term is summed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.heads import mlp
from twinlens.training.objective import BatchRows, HealthSpec, LossInputs
from twinlens.training.objectives.projected import ProjectedViews
from twinlens.training.views.crops import Crops

EPS = 1e-4


@dataclass(frozen=True)
class VICReg(ProjectedViews):
    """Variance, invariance, covariance over two views."""

    name: ClassVar[str] = "vicreg"
    summary: ClassVar[str] = "views agree while features vary and do not repeat each other"
    health: ClassVar[HealthSpec] = HealthSpec(head="z")

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    dim: int = 512
    crops: Crops = field(
        default_factory=lambda: Crops(
            scale_min=0.08, saturation=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2)
        )
    )

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A wide three-layer expander; its last layer has neither bias nor norm."""
        sizes = (widths["image"], self.hidden, self.hidden, self.dim)
        return {"projector": mlp(sizes, last_bias=False)}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the weighted sum, and each term separately."""
        views = inputs.student["z"].unbind(1)
        invariance = (views[0] - views[1]).square().mean()
        variance = torch.stack([missing_spread(z) for z in views]).mean()
        covariance = torch.stack([shared_variation(z) for z in views]).sum()
        loss = self.invariance * invariance + self.variance * variance
        return {
            "loss": loss + self.covariance * covariance,
            "invariance": invariance,
            "variance": variance,
            "covariance": covariance,
        }

    def chance(self, batch: int) -> float:
        """0.99 of the variance's weight: views agree, because nothing varies."""
        return self.variance * (1.0 - math.sqrt(EPS))


def missing_spread(z: Tensor) -> Tensor:
    """Return how far the columns' standard deviations fall short of 1, on average."""
    return torch.relu(1 - (z.var(dim=0) + EPS).sqrt()).mean()


def shared_variation(z: Tensor) -> Tensor:
    """Return the squared covariances of different columns of z (n, d), summed, over d."""
    n, d = z.shape
    centred = z - z.mean(dim=0)
    covariance = centred.mT @ centred / max(1, n - 1)
    own = torch.eye(d, dtype=torch.bool, device=z.device)
    return covariance.masked_fill(own, 0).square().sum() / d
