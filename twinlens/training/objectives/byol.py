"""BYOL: predict the EMA teacher's projection of the other view; no negatives.

Grill et al. 2020, https://arxiv.org/abs/2006.07733. loss = sum over the two views of
2 - 2 cos(predictor(z), teacher's z of the other view). The predictor belongs to the student alone.
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
    Declaration,
    Ema,
    HealthSpec,
    LossInputs,
    Objective,
    per_view,
    unit,
)
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class BYOL(Objective):
    """Cosine regression onto an EMA teacher."""

    name: ClassVar[str] = "byol"
    summary: ClassVar[str] = "predict the EMA teacher's view; no negatives"
    coupled: ClassVar[bool] = False
    health: ClassVar[HealthSpec] = HealthSpec(head="p", unit=("p",), needed=("predictor",))

    hidden: int = 1024
    dim: int = 256
    follow: Cosine = Cosine(0.99, 1.0)
    crops: Crops = field(
        default_factory=lambda: Crops(
            scale_min=0.08, saturation=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2)
        )
    )

    def views(self) -> Mapping[str, Crops]:
        """Two views with unequal blur and solarization."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """Projector and predictor."""
        return {
            "projector": mlp((widths["image"], self.hidden, self.dim)),
            "predictor": mlp((self.dim, self.hidden, self.dim)),
        }

    def state(self) -> tuple[Declaration, ...]:
        """The EMA teacher; it has no predictor."""
        return (Ema(("image", "projector"), self.follow),)

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return predictions p (n, 2, dim)."""
        seen, p = per_view(net, ("image", "projector", "predictor"), batch.views["global"])
        return {REPRESENTATION: seen, "p": p}

    def teacher(self, net: Network, batch: Batch) -> BatchRows:
        """Return targets z (n, 2, dim)."""
        return {"z": per_view(net, ("image", "projector"), batch.views["global"])[1]}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the regression of each view onto the teacher's other view."""
        p, z = unit(inputs.student["p"]), unit(inputs.teacher["z"]).flip(1)
        return {"loss": (2 - 2 * (p * z).sum(dim=-1)).sum(dim=1).mean()}

    def chance(self, batch: int) -> float:
        """4: predictions orthogonal to their targets. Collapse shows as 0 and no spread."""
        return 4.0
