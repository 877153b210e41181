"""Base classes of methods that compare two projected views: views, projector, rows `z`, labels.

What must stay true: the loss is the method's own, and reads only `z` (n, 2, dim) and labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

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


@dataclass(frozen=True)
class LabelledViews(ProjectedViews):
    """Two projected views of labelled images; the loss compares all views of the batch."""

    needs: ClassVar[tuple[str, ...]] = ("labels",)

    def labelled_rows(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Return the rows (2n, dim), all first views before all second ones, and their labels."""
        z = inputs.student["z"]
        return z.transpose(0, 1).flatten(0, 1), inputs.extra["labels"].repeat(z.shape[1])
