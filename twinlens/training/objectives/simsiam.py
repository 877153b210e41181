"""SimSiam: predict the other view's projection, without its gradient; no teacher, no negatives.

Chen & He 2020, https://arxiv.org/abs/2011.10566. With predictions p and projections z,
    loss = -[cos(p_1, stop(z_2)) + cos(p_2, stop(z_1))] / 2.
Without the stop-gradient or the predictor it falls to -1 at once, and all images collapse to one
point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from twinlens.training.nn.heads import mlp
from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    HealthSpec,
    LossInputs,
    Objective,
    ParamGroup,
    per_view,
    unit,
)
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class SimSiam(Objective):
    """Cosine regression onto the other view, with a stop-gradient."""

    name: ClassVar[str] = "simsiam"
    summary: ClassVar[str] = "predict the other view through a stop-gradient; no EMA teacher"
    coupled: ClassVar[bool] = False
    health: ClassVar[HealthSpec] = HealthSpec(
        "z", unit=("p",), stopped=("z",), needed=("predictor",)
    )

    hidden: int = 512
    dim: int = 512
    bottleneck: int = 128  # of the predictor
    predictor: bool = True  # without it, or without the stop, the method collapses: for studies
    stop_gradient: bool = True
    crops: Crops = field(default_factory=Crops)

    def views(self) -> Mapping[str, Crops]:
        """Two equal views."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """Projector that ends in a BatchNorm without scale; predictor with a bottleneck."""
        sizes = (widths["image"], self.hidden, self.hidden, self.dim)
        return {
            "projector": mlp(sizes, last_norm=True, affine=False),
            "predictor": mlp((self.dim, self.bottleneck, self.dim))
            if self.predictor
            else nn.Identity(),
        }

    def groups(self) -> tuple[ParamGroup, ...]:
        """The predictor keeps a constant rate, so that it keeps up with the projections."""
        return (ParamGroup("predictor", schedule="constant"),)

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return projections z and predictions p (n, 2, dim)."""
        seen, z = per_view(net, ("image", "projector"), batch.views["global"])
        p = net["predictor"](z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return {REPRESENTATION: seen, "p": p, "z": z}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the negative cosine of each prediction with the other view's projection."""
        target = inputs.student["z"]
        if self.stop_gradient:
            target = target.detach()
        p, z = unit(inputs.student["p"]), unit(target).flip(1)
        return {"loss": -(p * z).sum(dim=-1).mean()}

    def chance(self, batch: int) -> float:
        """0: predictions orthogonal to their targets. Collapse shows as -1 and no spread."""
        return 0.0
