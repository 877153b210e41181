"""MobileCLIP: CLIP that also learns the teachers' similarities of all images and captions.

Vasu et al. 2024, https://arxiv.org/abs/2311.17049. With the student's unit rows x, y and learned
scale s, the teachers' unit rows x_k, y_k of the same views and captions and their scales s_k,
    P = mean over k of softmax(s_k x_k y_k^T),
    distilled = [KL(P || softmax(s x y^T)) + the same from texts to images] / 2,
    loss = (1 - w) CLIP + w distilled.

Probabilities of several teachers are averaged after their softmax, as in the release. The teachers'
spaces may differ in width from the student's: only similarities are compared.
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
    mean_probabilities,
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
    summary: ClassVar[str] = "clip plus the teachers' similarities of images and captions"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="x", unit=("x", "y"))
    needs: ClassVar[tuple[str, ...]] = ("captions",)
    paths: ClassVar[Mapping[str, tuple[str, ...]]] = PATHS

    teachers: TeacherSettings = field(default_factory=TeacherSettings)
    distill_weight: float = 0.75  # of the teachers' term; the rest is CLIP's
    teacher_scale: float = 0.0  # of the teachers' similarities; 0 = each teacher's learned scale
    dim: int = 256  # width of the shared space; 0 = the image tower's
    scale_init: float = 1 / 0.07
    crops: Crops = field(default_factory=lambda: gentle_crops())

    def views(self) -> Mapping[str, Crops]:
        """One weak crop, which the teachers have seen."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Captions, and the teachers' embeddings of views and captions."""
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
        """Return the weighted sum, and both terms."""
        x, y, scale = inputs.student["x"], inputs.student["y"], inputs.shared["scale"]
        own, distilled = clip_loss(x, y, scale), self._distilled(inputs, x, y, scale)
        loss = (1 - self.distill_weight) * own + self.distill_weight * distilled
        return {"loss": loss, "clip_loss": own, "distilled": distilled, "scale": scale}

    def chance(self, batch: int) -> float:
        """Ln n for both: every caption is equally likely, and the teachers are certain of one."""
        return math.log(batch)

    def _distilled(self, inputs: LossInputs, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        """Return the divergence from the teachers' distributions, in both directions."""
        images, texts = (
            split_rows(inputs.extra[name].to(x), self.teachers.dims)
            for name in ("teacher", "teacher_text")
        )
        scales = [self.teacher_scale or learned for learned in self.teachers.scales]
        logits = scale * unit(x) @ unit(y).mT
        there = divergence(
            mean_probabilities(list(zip(images, texts, strict=True)), scales), logits
        )
        back = divergence(
            mean_probabilities(list(zip(texts, images, strict=True)), scales), logits.mT
        )
        return (there + back) / 2
