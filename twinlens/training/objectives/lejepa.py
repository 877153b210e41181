"""LeJEPA: views predict the mean of the large ones, and rows follow an isotropic Gaussian (SIGReg).

Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544, algorithms 1 and 2. With projected
rows z_v (n, d) of V views, the first of them large, and c the mean over the large ones,
    loss = (1 - lambda) mean (z_v - c)^2 + lambda mean over views of SIGReg(z_v).
No teacher, no stop-gradient, no schedule: the Gaussian alone keeps images apart. Directions are
drawn anew each step, the same on every rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.gaussian import departure, draw_directions, place_points
from twinlens.training.nn.heads import mlp
from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    HealthSpec,
    LossInputs,
    Objective,
    per_view,
)
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class LeJEPA(Objective):
    """Prediction of the views' mean, and a test for a Gaussian."""

    name: ClassVar[str] = "lejepa"
    summary: ClassVar[str] = "views predict their mean, and embeddings stay an isotropic Gaussian"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="z")

    gaussian_weight: float = 0.05  # lambda
    directions: int = 256  # directions of the comparison with a Gaussian, drawn each step
    points: int = 17  # quadrature points of the integral over t
    reach: float = 3.0  # the largest t; the statistic is even in t
    hidden: int = 512
    dim: int = 128
    crops: Crops = field(default_factory=lambda: lejepa_crops(2, 1.0, 0.3, 1.0))
    local: Crops = field(default_factory=lambda: lejepa_crops(4, 0.5, 0.05, 0.3))

    def views(self) -> Mapping[str, Crops]:
        """Large crops, whose mean all views predict, and small ones."""
        return {"global": self.crops} | ({"local": self.local} if self.local.count else {})

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A three-layer projector."""
        sizes = (widths["image"], self.hidden, self.hidden, self.dim)
        return {"projector": mlp(sizes)}

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return z (n, large, dim), and `small` (n, small, dim) of the small crops."""
        pairs = {
            name: per_view(net, ("image", "projector"), views)
            for name, views in batch.views.items()
        }
        small = {"small": pairs["local"][1]} if "local" in pairs else {}
        return {REPRESENTATION: pairs["global"][0], "z": pairs["global"][1], **small}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the weighted sum, and each term separately."""
        z = inputs.student["z"]
        views = torch.cat([z, inputs.student["small"]], 1) if "small" in inputs.student else z
        away = (views - z.mean(dim=1, keepdim=True)).square().mean()
        gaussian = self._departures(views, inputs.progress.step)
        loss = (1 - self.gaussian_weight) * away + self.gaussian_weight * gaussian
        return {"loss": loss, "away": away, "gaussian": gaussian}

    def chance(self, batch: int) -> float:
        """Lambda times the statistic of rows that are all 0: views agree."""
        points, weights = place_points(self.points, self.reach, torch.zeros((), dtype=torch.double))
        gap = (1 - (-points.square() / 2).exp()).square()
        return self.gaussian_weight * batch * float(gap @ weights)

    def _departures(self, views: Tensor, step: int) -> Tensor:
        """Return the mean over views of the statistic of rows (n, views, dim)."""
        directions = draw_directions(views.shape[2], self.directions, step, views)
        points, weights = place_points(self.points, self.reach, views)
        found = [departure(z, directions, points, weights) for z in views.unbind(1)]
        return torch.stack(found).mean()


def lejepa_crops(count: int, size_ratio: float, scale_min: float, scale_max: float) -> Crops:
    """Return crops with the release's colour augmentation, the same for large and small ones."""
    return Crops(
        count,
        size_ratio=size_ratio,
        scale_min=scale_min,
        scale_max=scale_max,
        saturation=0.2,
        solarize=(0.2,),
    )
