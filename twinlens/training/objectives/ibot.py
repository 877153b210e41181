"""iBOT: DINO on the class token, and the same on hidden patches (Zhou et al. 2021).

https://arxiv.org/abs/2111.07832. The student sees large crops with hidden patches, the teacher sees
them whole; with assignments as in DINO and a separate centre,
    loss = CE over pairs of different crops + CE over hidden patches of the same crop.

Only hidden patches pass through the student's head, and logits of patches exist in the loss alone,
one block at a time. The patches' centre is the mean over all patches that the teacher saw, as in
the paper's release; logits are linear in the bottleneck rows, so their mean needs no logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.assignment import (
    cross_view_entropy,
    describe_targets,
    prototype_entropy,
)
from twinlens.training.nn.heads import PrototypeHead
from twinlens.training.nn.network import Network
from twinlens.training.nn.reconstruction import Token
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
    summary: ClassVar[str] = "DINO on crops and on hidden patches; needs a vit"
    coupled: ClassVar[bool] = False
    health: ClassVar[HealthSpec] = HealthSpec(head="x")
    served: ClassVar[Literal["student", "teacher"]] = "teacher"
    centre_sees_all: ClassVar[bool] = True  # whether the patch centre is the mean over all

    prototypes: int = 1024
    hidden: int = 512
    narrow: int = 128
    separate: bool = False  # a separate head for patches
    student_temperature: float = 0.1
    teacher_temperature: Linear = Linear(0.04, 0.07, 0.3)
    patch_temperature: Linear = Linear(0.04, 0.07, 0.3)
    centre_momentum: float = 0.9
    frozen_epochs: float = 1.0  # of the prototypes
    follow: Cosine = Cosine(0.996, 1.0)
    masked: Masks = field(default_factory=lambda: Masks("blocks", 0.1, 0.5, share=0.5))
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
        return {"global": self.crops} | ({"local": self.local} if self.local.count else {})

    def extras(self) -> tuple[Extra, ...]:
        """Masks: blocks, on some of the large crops."""
        return (self.masked,)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The prototype heads and the mask token."""
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
            Centre(
                "patch_centre", self.prototypes, self.centre_momentum, "patch_sums", "patch_counts"
            ),
        )

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return `logits` (n, crops, k); of the masked large crops `x`, and `patches`.

        `patches` are the unit bottleneck rows (n, 2, p, d) of hidden patches; other rows are 0.
        """
        mask = batch.extra["mask"]
        tokens = self._tokens(net, batch.views["global"], mask, net["mask_token"]())
        x = tokens[:, :, 0].clone()  # torch.compile mistakes the shape of a returned view
        logits = net["projector"](x)
        if "local" in batch.views:
            small = self._tokens(net, batch.views["local"])[:, :, 0]
            logits = torch.cat([logits, net["projector"](small)], dim=1)
        patches = self._narrow(net, tokens, mask)
        return {REPRESENTATION: x.detach(), "x": x, "logits": logits, "patches": patches}

    def teacher(self, net: Network, batch: Batch) -> BatchRows:
        """Return the same for the whole large crops, with sums of patch logits for the centre."""
        tokens = self._tokens(net, batch.views["global"])
        mask = batch.extra["mask"]
        seen = torch.ones_like(mask) if self.centre_sees_all else mask
        patches = self._narrow(net, tokens, seen)
        sums = patches.sum(dim=(1, 2), dtype=torch.promote_types(patches.dtype, torch.float32))
        return {
            "logits": net["projector"](tokens[:, :, 0]),
            "patches": patches,
            "patch_sums": sums @ self._prototypes(net).to(sums).mT,
            "patch_counts": seen.sum(dim=(1, 2)),
        }

    def shared(self, net: Network) -> BatchRows:
        """Return the prototypes of patches (k, d)."""
        return {"patch_prototypes": self._prototypes(net)}

    def teacher_shared(self, net: Network) -> BatchRows:
        """Return the teacher's prototypes of patches."""
        return self.shared(net)

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the sum of both cross-entropies, each separately, and the targets' entropies."""
        crops = self._crop_targets(inputs)
        logs = (inputs.student["logits"] / self.student_temperature).log_softmax(dim=-1)
        crop_loss = cross_view_entropy(crops, logs)
        patch_loss = self._patch_loss(inputs)
        terms = {"crop_loss": crop_loss, "patch_loss": patch_loss}
        return {"loss": crop_loss + patch_loss, **terms, **describe_targets(crops)}

    def chance(self, batch: int) -> float:
        """(1 + share of masked crops) ln K: both sides uniform."""
        return (1 + self.masked.share) * math.log(self.prototypes)

    @property
    def _patch_head(self) -> str:
        return "patch_projector" if self.separate else "projector"

    def _narrow(self, net: Network, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return unit bottleneck rows (n, v, p, d) in the mask (n, v, p), 0 elsewhere."""
        head = net[self._patch_head]
        assert isinstance(head, PrototypeHead)
        found = head.narrow(tokens[:, :, 1:][mask])
        rows = found.new_zeros(*mask.shape, found.shape[-1])
        rows[mask] = found
        return rows

    def _prototypes(self, net: Network) -> Tensor:
        head = net[self._patch_head]
        assert isinstance(head, PrototypeHead)
        return head.unit_prototypes()

    def _tokens(
        self,
        net: Network,
        views: Tensor,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> Tensor:
        tower = net["image"]
        assert isinstance(tower, TokenTower)
        hidden = None if mask is None else mask.flatten(0, 1)
        tokens = tower.tokens(views.flatten(0, 1), hidden=hidden, mask_token=mask_token)
        rows: Tensor = tokens.unflatten(0, views.shape[:2])
        return rows

    def _patch_loss(self, inputs: LossInputs) -> Tensor:
        """Return the mean over crops of the mean cross-entropy over hidden patches."""
        mask, rows = inputs.extra["mask"], inputs.student["patches"]
        weights = mask.to(rows.dtype)
        shares = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1) / mask[..., 0].numel()
        return prototype_entropy(
            rows[mask],
            inputs.shared["patch_prototypes"],
            self._patch_targets(inputs),
            shares[mask],
            self.student_temperature,
        )

    def _crop_targets(self, inputs: LossInputs) -> Tensor:
        """Return the teacher's assignments of the large crops (n, 2, k)."""
        sharp = self.teacher_temperature.at(inputs.progress)
        centred: Tensor = inputs.teacher["logits"] - inputs.state["centre"]
        return (centred / sharp).softmax(dim=-1)

    def _patch_targets(self, inputs: LossInputs) -> Callable[[slice], Tensor]:
        """Return a function for the assignments of some of the hidden patches."""
        sharp, centre = self.patch_temperature.at(inputs.progress), inputs.state["patch_centre"]
        rows = inputs.teacher["patches"][inputs.extra["mask"]]
        prototypes = inputs.teacher_shared["patch_prototypes"]
        return lambda some: ((rows[some] @ prototypes.mT - centre) / sharp).softmax(dim=-1)
