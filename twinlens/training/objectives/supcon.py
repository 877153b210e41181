"""SupCon: views of the same class find each other (Khosla et al. 2020).

https://arxiv.org/abs/2004.11362, with the mean over positives outside the logarithm:
    loss = -(T / T_base) mean over anchors, mean over positives of log p(positive | anchor).
An anchor without any positive asks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from twinlens.training.contrast import supcon_loss
from twinlens.training.heads import mlp
from twinlens.training.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Anatomy,
    Batch,
    Given,
    Objective,
    Rows,
    per_view,
)
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class SupCon(Objective):
    """Supervised contrast over two views."""

    name: ClassVar[str] = "supcon"
    summary: ClassVar[str] = "views of the same class find each other; needs labels"
    coupled: ClassVar[bool] = True
    anatomy: ClassVar[Anatomy] = Anatomy(head="z", unit=("z",))
    needs: ClassVar[tuple[str, ...]] = ("labels",)

    temperature: float = 0.1
    base_temperature: float = 0.07
    hidden: int = 512
    dim: int = 128
    crops: Crops = field(default_factory=Crops)

    def views(self) -> Mapping[str, Crops]:
        """Two equal views."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A two-layer projector."""
        return {"projector": mlp((widths["image"], self.hidden, self.dim))}

    def student(self, net: Network, batch: Batch) -> Rows:
        """Return z (n, 2, dim)."""
        seen, z = per_view(net, ("image", "projector"), batch.views["global"])
        return {REPRESENTATION: seen, "z": z}

    def loss(self, given: Given) -> Rows:
        """Return the supervised contrastive loss over all views."""
        z = given.student["z"]
        labels = given.extra["labels"].repeat(z.shape[1])
        loss = supcon_loss(z.transpose(0, 1).flatten(0, 1), labels, 1 / self.temperature)
        return {"loss": self.temperature / self.base_temperature * loss}

    def chance(self, batch: int) -> float:
        """(T / T_base) ln(2n - 1): every other view is as likely."""
        return self.temperature / self.base_temperature * math.log(2 * batch - 1)
