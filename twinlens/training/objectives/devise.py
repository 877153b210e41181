"""DeViSE: an image is nearer to its own text than to any other, by a margin.

Frome et al. 2013, "DeViSE: A Deep Visual-Semantic Embedding Model". With unit rows x, y,
    loss = mean_i sum over j != i of max(0, margin - x_i y_i + x_i y_j).
The paper learns its text space beforehand and fixes it: `frozen_text` does so, for runs whose text
tower starts from pretrained weights. Otherwise the text tower trains too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    Batch,
    BatchRows,
    Captions,
    Extra,
    HealthSpec,
    LossInputs,
    Objective,
    ParamGroup,
    unit,
)
from twinlens.training.objectives.clip import PATHS, embed_pairs, gentle_crops, project_towers
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class DeViSE(Objective):
    """Hinge ranking of texts by images."""

    name: ClassVar[str] = "devise"
    summary: ClassVar[str] = "images rank their own caption first by a margin"
    coupled: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("captions",)
    paths: ClassVar[Mapping[str, tuple[str, ...]]] = PATHS
    health: ClassVar[HealthSpec] = HealthSpec(head="x", unit=("x", "y"))

    dim: int = 256  # width of the shared space; 0 = the image tower's
    margin: float = 0.1
    frozen_text: bool = False
    crops: Crops = field(default_factory=lambda: gentle_crops())

    def views(self) -> Mapping[str, Crops]:
        """One weak crop."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Captions."""
        return (Captions(),)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A linear projection for each tower."""
        return project_towers(widths, self.dim)

    def groups(self) -> tuple[ParamGroup, ...]:
        """With `frozen_text` the text side is frozen."""
        return (ParamGroup("text", lr_factor=0.0, decay=False),) if self.frozen_text else ()

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return image rows x and text rows y (n, dim)."""
        return embed_pairs(net, batch)

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the mean over images of the hinges over other texts."""
        x, y = unit(inputs.student["x"]), unit(inputs.student["y"])
        cosine = x @ y.mT
        hinge = (self.margin - cosine.diagonal()[:, None] + cosine).relu()
        hinge = hinge - hinge.diag().diag()  # a text does not compete with itself
        return {"loss": hinge.sum(dim=1).mean()}

    def chance(self, batch: int) -> float:
        """(n - 1) margin: all texts are equally near."""
        return (batch - 1) * self.margin
