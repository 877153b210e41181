"""SigLIP: each pair of image and caption is classified separately (Zhai et al. 2023).

https://arxiv.org/abs/2303.15343. With unit rows, learned scale t and bias b, +1 on the diagonal,
    loss = -(1/n) sum over pairs of log sigmoid(+-(t x y^T + b)):   over n, not over n squared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from twinlens.training.nn.contrast import siglip_loss
from twinlens.training.nn.network import Network, ScalarParameter
from twinlens.training.objective import (
    Batch,
    BatchRows,
    Captions,
    Extra,
    HealthSpec,
    LossInputs,
    Objective,
)
from twinlens.training.objectives.clip import PATHS, embed_pairs, gentle_crops, lock, project_towers
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class SigLIP(Objective):
    """Sigmoid contrast between two towers."""

    name: ClassVar[str] = "siglip"
    summary: ClassVar[str] = "each image-caption pair is classified separately"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="x", unit=("x", "y"))
    needs: ClassVar[tuple[str, ...]] = ("captions",)
    paths: ClassVar[Mapping[str, tuple[str, ...]]] = PATHS

    dim: int = 256  # width of the shared space; 0 = the image tower's
    locked: bool = False  # the image tower is frozen, and its embeddings are computed once
    scale_init: float = 10.0
    bias_init: float = -10.0  # about -ln(batch) starts small batches near the chance value
    crops: Crops = field(default_factory=gentle_crops)

    def views(self) -> Mapping[str, Crops]:
        """One weak crop."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Captions, and a locked image tower's embeddings."""
        return Captions(), *lock(self.locked)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A linear projection for each tower, the learned scale and bias."""
        numbers = {
            "scale": ScalarParameter(math.log(self.scale_init)),
            "bias": ScalarParameter(self.bias_init),
        }
        return project_towers(widths, self.dim) | numbers

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return image rows x and text rows y (n, dim)."""
        return embed_pairs(net, batch)

    def shared(self, net: Network) -> BatchRows:
        """Return scale and bias."""
        return {"scale": net["scale"]().exp(), "bias": net["bias"]()}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the sigmoid loss."""
        scale, bias = inputs.shared["scale"], inputs.shared["bias"]
        loss = siglip_loss(inputs.student["x"], inputs.student["y"], scale, bias)
        return {"loss": loss, "scale": scale, "bias": bias}

    def chance(self, batch: int) -> float:
        """The smallest loss of a constant logit: one positive among n, sigmoid = 1/n."""
        return math.log(batch) + (batch - 1) * math.log(batch / (batch - 1))
