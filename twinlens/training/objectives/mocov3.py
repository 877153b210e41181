"""MoCo v3: two views find each other's momentum keys in the batch; no queue, a predictor.

Chen et al. 2021, https://arxiv.org/abs/2104.02057. With q of predictor(projector(student)) and k of
the teacher's projector, loss = 2 T [CE(q1 k2 / T) + CE(q2 k1 / T)], columns over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from twinlens.training.nn.contrast import one_way_loss
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
)
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class MoCoV3(Objective):
    """In-batch InfoNCE against momentum keys."""

    name: ClassVar[str] = "mocov3"
    summary: ClassVar[str] = "two views find each other's momentum keys in the batch"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="q", unit=("q",))

    temperature: float = 0.2
    layers: int = 2  # of the projector
    predictor_norm: bool = False  # the predictor also ends in a BatchNorm without scale
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
        """Projector (last BatchNorm without scale), and the student's predictor."""
        sizes = (widths["image"], *[self.hidden] * (self.layers - 1), self.dim)
        ends, last_norm = (self.dim, self.hidden, self.dim), self.predictor_norm
        return {
            "projector": mlp(sizes, last_norm=True, affine=False),
            "predictor": mlp(ends, last_norm=last_norm, affine=not last_norm),
        }

    def state(self) -> tuple[Declaration, ...]:
        """The EMA teacher; it has no predictor."""
        return (Ema(("image", "projector"), self.follow),)

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return queries q (n, 2, dim)."""
        seen, q = per_view(net, ("image", "projector", "predictor"), batch.views["global"])
        return {REPRESENTATION: seen, "q": q}

    def teacher(self, net: Network, batch: Batch) -> BatchRows:
        """Return keys k (n, 2, dim)."""
        return {"k": per_view(net, ("image", "projector"), batch.views["global"])[1]}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the symmetric loss, with the paper's factor 2 T."""
        (q1, q2), (k1, k2) = inputs.student["q"].unbind(1), inputs.teacher["k"].unbind(1)
        scale = 1 / self.temperature
        both = one_way_loss(q1, k2, scale) + one_way_loss(q2, k1, scale)
        return {"loss": 2 * self.temperature * both}

    def chance(self, batch: int) -> float:
        """4 T ln n: every key of the batch is as likely."""
        return 4 * self.temperature * math.log(batch)
