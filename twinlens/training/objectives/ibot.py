"""iBOT: DINO on the class token, and the same on hidden patches (Zhou et al. 2021).

https://arxiv.org/abs/2111.07832. The student sees large crops with hidden patches, the teacher sees
all of them; with assignments as in DINO and a centre of their own,
    loss = CE over pairs of different crops + CE over hidden patches of the same crop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.assignment import cross_view_entropy, describe_targets
from twinlens.training.nn.heads import PrototypeHead
from twinlens.training.nn.network import Network
from twinlens.training.nn.reconstruction import Token, masked_mean
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Centre,
    Declaration,
    Ema,
    Extra,
    HealthSpec,
    LossInputs,
    Objective,
    ParamGroup,
)
from twinlens.training.schedules import Cosine, Linear
from twinlens.training.views.crops import Crops
from twinlens.training.views.masks import Masks


@dataclass(frozen=True)
class IBOT(Objective):
    """Self-distillation of crops and of hidden patches."""

    name: ClassVar[str] = "ibot"
    summary: ClassVar[str] = "DINO, and the same on hidden patches; needs a vit"
    coupled: ClassVar[bool] = False
    health: ClassVar[HealthSpec] = HealthSpec(head="x")
    served: ClassVar[Literal["student", "teacher"]] = "teacher"

    prototypes: int = 1024
    hidden: int = 512
    narrow: int = 128
    separate: bool = False  # a head of its own for patches
    student_temperature: float = 0.1
    teacher_temperature: Linear = Linear(0.04, 0.07, 0.3)
    patch_temperature: Linear = Linear(0.04, 0.07, 0.3)
    centre_momentum: float = 0.9
    frozen_epochs: float = 1.0  # of the prototypes
    follow: Cosine = Cosine(0.996, 1.0)
    masked: Masks = field(default_factory=lambda: Masks("blocks", 0.1, 0.5, share=0.5))
    crops: Crops = field(
        default_factory=lambda: Crops(scale_min=0.4, blur=(1.0, 0.1), solarize=(0.0, 0.2))
    )
    local: Crops = field(
        default_factory=lambda: Crops(6, size_ratio=0.5, scale_min=0.05, scale_max=0.4)
    )

    def views(self) -> Mapping[str, Crops]:
        """Two large crops and some small ones."""
        return {"global": self.crops} | ({"local": self.local} if self.local.count else {})

    def extras(self) -> tuple[Extra, ...]:
        """Masks: blocks, on some of the large crops."""
        return (self.masked,)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The prototype heads and the stand-in for hidden patches."""
        width = widths["image"]
        return {
            name: PrototypeHead(width, self.hidden, self.narrow, self.prototypes)
            for name in dict.fromkeys(("projector", self._patch_head))
        } | {"mask_token": Token(widths["inner"])}

    def groups(self) -> tuple[ParamGroup, ...]:
        """Prototypes are frozen for the first epochs."""
        heads = dict.fromkeys(("projector", self._patch_head))
        return tuple(
            ParamGroup(f"{name}.prototypes", frozen_epochs=self.frozen_epochs) for name in heads
        )

    def state(self) -> tuple[Declaration, ...]:
        """The EMA teacher, and a centre each for crops and patches."""
        parts = tuple(dict.fromkeys(("image", "projector", self._patch_head)))
        return (
            Ema(parts, self.follow),
            Centre("centre", self.prototypes, self.centre_momentum, "logits"),
            Centre("patch_centre", self.prototypes, self.centre_momentum, "patches"),
        )

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return `logits` (n, crops, k); of the masked large crops `patches` (n, 2, p, k) and x."""
        tokens = self._tokens(net, batch.views["global"], batch.extra["mask"], net["mask_token"]())
        rows = self._assign(net, tokens)
        if "local" in batch.views:
            small = self._tokens(net, batch.views["local"])[:, :, 0]
            rows["logits"] = torch.cat([rows["logits"], net["projector"](small)], dim=1)
        x = tokens[:, :, 0].clone()  # torch.compile mistakes the shape of a view that it returns
        return {REPRESENTATION: x.detach(), "x": x, **rows}

    def teacher(self, net: Network, batch: Batch) -> BatchRows:
        """Return the same of the large crops as they are."""
        return self._assign(net, self._tokens(net, batch.views["global"]))

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the sum of both cross-entropies, each by itself, and the targets' entropies."""
        crops = self._targets(inputs, "logits", "centre", self.teacher_temperature)
        cells = self._targets(inputs, "patches", "patch_centre", self.patch_temperature)
        logs = {
            name: (inputs.student[name] / self.student_temperature).log_softmax(dim=-1)
            for name in ("logits", "patches")
        }
        crop_loss = cross_view_entropy(crops, logs["logits"])
        errors = -(cells * logs["patches"]).sum(dim=-1)  # (n, 2, p)
        patch_loss = masked_mean(errors.flatten(0, 1), inputs.extra["mask"].flatten(0, 1))
        terms = {"crop_loss": crop_loss, "patch_loss": patch_loss}
        return {"loss": crop_loss + patch_loss, **terms, **describe_targets(crops)}

    def chance(self, batch: int) -> float:
        """(1 + share of masked crops) ln K: both sides uniform."""
        return (1 + self.masked.share) * math.log(self.prototypes)

    @property
    def _patch_head(self) -> str:
        return "patch_projector" if self.separate else "projector"

    def _assign(self, net: Network, tokens: Tensor) -> BatchRows:
        """Return logits of the class token and of the patches of tokens (n, v, 1 + p, width)."""
        crops, patches = tokens[:, :, 0], tokens[:, :, 1:]
        return {"logits": net["projector"](crops), "patches": net[self._patch_head](patches)}

    def _tokens(
        self,
        net: Network,
        views: Tensor,
        mask: Tensor | None = None,
        stand_in: Tensor | None = None,
    ) -> Tensor:
        tower = net["image"]
        assert isinstance(tower, TokenTower)
        hidden = None if mask is None else mask.flatten(0, 1)
        tokens = tower.tokens(views.flatten(0, 1), hidden=hidden, stand_in=stand_in)
        rows: Tensor = tokens.unflatten(0, views.shape[:2])
        return rows

    def _targets(self, inputs: LossInputs, rows: str, centre: str, temperature: Linear) -> Tensor:
        sharp = temperature.at(inputs.progress)
        centred: Tensor = inputs.teacher[rows] - inputs.state[centre]
        return (centred / sharp).softmax(dim=-1)
