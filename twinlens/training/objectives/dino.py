"""DINO: all crops predict the EMA teacher's soft assignment of the large ones.

Caron et al. 2021, https://arxiv.org/abs/2104.14294. With student logits S, teacher logits T and
centre c,
    loss = mean over pairs (t, v), t != v, of CE(softmax((T_t - c) / tau_t), softmax(S_v / tau_s)).
The centre is updated after its use, by the mean of the raw teacher logits over all ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import nn

from twinlens.training.nn.assignment import cross_view_entropy, describe_targets
from twinlens.training.nn.heads import PrototypeHead
from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Centre,
    Declaration,
    Ema,
    LossInputs,
    Objective,
    ParamGroup,
    per_view,
)
from twinlens.training.schedules import Cosine, Linear
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class DINO(Objective):
    """Self-distillation with centring, sharpening and multi-crop."""

    name: ClassVar[str] = "dino"
    summary: ClassVar[str] = "crops predict the EMA teacher's soft assignment of large ones"
    coupled: ClassVar[bool] = False
    served: ClassVar[Literal["student", "teacher"]] = "teacher"

    prototypes: int = 1024
    hidden: int = 512
    narrow: int = 128
    student_temperature: float = 0.1
    teacher_temperature: Linear = Linear(0.04, 0.07, 0.3)
    centre_momentum: float = 0.9
    frozen_epochs: float = 1.0  # of the prototypes
    follow: Cosine = Cosine(0.996, 1.0)
    crops: Crops = field(
        default_factory=lambda: Crops(
            scale_min=0.4, saturation=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2)
        )
    )
    local: Crops = field(
        default_factory=lambda: Crops(
            6, size_ratio=0.5, scale_min=0.05, scale_max=0.4, saturation=0.2
        )
    )

    def views(self) -> Mapping[str, Crops]:
        """Two large crops and some small ones."""
        local = {"local": self.local} if self.local.count else {}
        return {"global": self.crops, **local}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The prototype head."""
        head = PrototypeHead(widths["image"], self.hidden, self.narrow, self.prototypes)
        return {"projector": head}

    def groups(self) -> tuple[ParamGroup, ...]:
        """Prototypes are frozen for the first epochs."""
        return (ParamGroup("projector.prototypes", frozen_epochs=self.frozen_epochs),)

    def state(self) -> tuple[Declaration, ...]:
        """The EMA teacher and the centre of its logits."""
        centre = Centre("centre", self.prototypes, self.centre_momentum, "logits")
        return Ema(("image", "projector"), self.follow), centre

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return logits (n, crops, prototypes), large crops first; one forward pass per size."""
        pairs = [per_view(net, ("image", "projector"), views) for views in batch.views.values()]
        return {REPRESENTATION: pairs[0][0], "logits": torch.cat([out for _, out in pairs], dim=1)}

    def teacher(self, net: Network, batch: Batch) -> BatchRows:
        """Return logits (n, 2, prototypes) of the large crops."""
        return {"logits": per_view(net, ("image", "projector"), batch.views["global"])[1]}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the cross-entropy over pairs of different crops, and the targets' entropies."""
        sharp = self.teacher_temperature.at(inputs.progress)
        centred = (inputs.teacher["logits"] - inputs.state["centre"]) / sharp
        target = centred.softmax(dim=-1)
        log_probabilities = (inputs.student["logits"] / self.student_temperature).log_softmax(
            dim=-1
        )
        loss = cross_view_entropy(target, log_probabilities)
        return {"loss": loss, **describe_targets(target)}

    def chance(self, batch: int) -> float:
        """Ln K: both sides uniform."""
        return math.log(self.prototypes)
