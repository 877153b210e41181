"""MobileCLIP: CLIP that learns from teachers how near every image is to every caption.

Vasu et al. 2024, https://arxiv.org/abs/2311.17049. With the student's unit rows x, y and learned
scale s, the teachers' unit rows x_k, y_k of the same views and captions and their scales s_k,
    P = mean over k of softmax(s_k x_k y_k^T),
    distilled = [KL(P || softmax(s x y^T)) + the same from texts to images] / 2,
    loss = (1 - w) CLIP + w distilled.
Probabilities of several teachers are averaged after their softmax, as its release does. The
teachers' space and the student's need not be of one width: only similarities are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from twinlens.errors import InputError
from twinlens.training.nn.contrast import clip_loss
from twinlens.training.nn.network import Network, ScalarParameter
from twinlens.training.nn.teachers import (
    TeacherSettings,
    Teaching,
    divergence,
    mean_odds,
    split_rows,
)
from twinlens.training.objective import (
    Batch,
    BatchRows,
    Captions,
    Clamp,
    Declaration,
    Extra,
    HealthSpec,
    LossInputs,
    Objective,
    unit,
)
from twinlens.training.objectives.clip import (
    CLIP_MAX_SCALE,
    PATHS,
    embed_pairs,
    gentle_crops,
    project_towers,
)
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class MobileCLIP(Objective):
    """CLIP's loss and the teachers' distributions over the batch."""

    name: ClassVar[str] = "mobileclip"
    summary: ClassVar[str] = "clip, and each image is as near to each caption as its teachers say"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="x", unit=("x", "y"))
    needs: ClassVar[tuple[str, ...]] = ("captions",)
    paths: ClassVar[Mapping[str, tuple[str, ...]]] = PATHS

    teachers: TeacherSettings = field(default_factory=TeacherSettings)
    distill_weight: float = 0.75  # of the teachers; CLIP's loss has the rest
    teacher_scale: float = 0.0  # of the teachers' similarities; 0 = what each has learned
    dim: int = 256  # of the common space; 0 = that of the image tower
    scale_init: float = 1 / 0.07
    crops: Crops = field(default_factory=lambda: gentle_crops())

    def views(self) -> Mapping[str, Crops]:
        """One mild crop, which the teachers have seen."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Captions, and what the teachers answer to views and captions."""
        return Captions(), Teaching(self.teachers, texts=True)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A linear projection for each tower, and the learned scale."""
        self.teachers.check(self.name)
        if not all(self.teachers.texts):
            place = self.teachers.texts.index(False)
            raise InputError(
                f"teacher {self.teachers.sources.split(',')[place]!r} has no text tower, and"
                " mobileclip learns from both; give a bundle or run with two, or use distill",
                field="teachers",
            )
        scale = {"scale": ScalarParameter(math.log(self.scale_init))}
        return project_towers(widths, self.dim) | scale

    def state(self) -> tuple[Declaration, ...]:
        """The bounds of the scale."""
        return (Clamp("scale.value", 0.0, math.log(CLIP_MAX_SCALE)),)

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return image rows x and text rows y (n, dim)."""
        return embed_pairs(net, batch)

    def shared(self, net: Network) -> BatchRows:
        """Return the scale."""
        return {"scale": net["scale"]().exp()}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the weighted sum, and each of the two losses."""
        x, y, scale = inputs.student["x"], inputs.student["y"], inputs.shared["scale"]
        own, distilled = clip_loss(x, y, scale), self._distilled(inputs, x, y, scale)
        loss = (1 - self.distill_weight) * own + self.distill_weight * distilled
        return {"loss": loss, "clip_loss": own, "distilled": distilled, "scale": scale}

    def chance(self, batch: int) -> float:
        """Ln n for both: every caption is as likely, and the teachers are sure of one."""
        return math.log(batch)

    def _distilled(self, inputs: LossInputs, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """Return the divergence from the teachers' distributions, both ways."""
        images, texts = (
            split_rows(inputs.extra[name].to(x), self.teachers.dims)
            for name in ("teacher", "teacher_text")
        )
        scales = [self.teacher_scale or learned for learned in self.teachers.scales]
        logits = scale * unit(x) @ unit(y).mT
        there = divergence(mean_odds(list(zip(images, texts, strict=True)), scales), logits)
        back = divergence(mean_odds(list(zip(texts, images, strict=True)), scales), logits.mT)
        return (there + back) / 2
