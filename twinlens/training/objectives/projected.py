"""What methods share that compare two projected views of each image: views, projector, rows `z`.

What must stay true: the loss is the method's own, and sees nothing but `z` (n, 2, dim) and labels.
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
    Objective,
    per_view,
)
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class ProjectedViews(Objective):
    """Two views of each image through the encoder and a projector."""

    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="z", unit=("z",))

    hidden: int = 512
    dim: int = 128
    crops: Crops = field(default_factory=Crops)

    def views(self) -> Mapping[str, Crops]:
        """Two views."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A two-layer projector."""
        return {"projector": mlp((widths["image"], self.hidden, self.dim))}

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return z (n, 2, dim)."""
        seen, z = per_view(net, ("image", "projector"), batch.views["global"])
        return {REPRESENTATION: seen, "z": z}
