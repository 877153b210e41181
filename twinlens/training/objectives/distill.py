"""Distillation: the student reproduces its teachers' embeddings of a view, in their space.

With the teachers' unit row t of the same view and the student's projected row p,
    loss = 1 - cos(p, t),
and with `token_weight` w, patch tokens q_j and the teacher's t_j on the student's grid,
    loss = 1 - cos(p, t) + w mean over patches of (1 - cos(q_j, t_j)).

Teachers embed `teachers.views` views of each picture once; the student's views are made again from
the same seeds (Beyer et al. 2022, https://arxiv.org/abs/2106.05237: student and teacher must see
the same view). p is served: the space of the teacher, or the concatenation of several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.errors import InputError
from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import Network
from twinlens.training.nn.teachers import TeacherSettings, Teaching, fit_grid
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Extra,
    HealthSpec,
    LossInputs,
    Objective,
)
from twinlens.training.views.crops import Crops

PATH = ("image", "projection")


@dataclass(frozen=True)
class Distill(Objective):
    """Cosine to the teachers' embeddings of the same views."""

    name: ClassVar[str] = "distill"
    summary: ClassVar[str] = (
        "reproduce the embeddings of teachers: any bundle, run or released weights"
    )
    coupled: ClassVar[bool] = False
    health: ClassVar[HealthSpec] = HealthSpec(head="p", unit=("p",))
    paths: ClassVar[Mapping[str, tuple[str, ...]]] = {"image": PATH}

    teachers: TeacherSettings = field(default_factory=TeacherSettings)
    token_weight: float = 0.0  # of patch tokens, if a teacher has them; 0 = embeddings only
    crops: Crops = field(default_factory=lambda: distilled_crops())

    def views(self) -> Mapping[str, Crops]:
        """One view, which the teachers have seen."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """The teachers' embeddings."""
        return (Teaching(self.teachers, tokens=self.token_weight > 0),)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A linear projection into the teachers' space, and one of patch tokens."""
        self.teachers.check(self.name)
        parts: dict[str, nn.Module] = {"projection": nn.Linear(widths["image"], self.teachers.dim)}
        if self.token_weight:
            self._check_tokens("patch" in widths)
            parts["token_projection"] = nn.Linear(widths["image"], self.teachers.token_dim)
        return parts

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return p (n, dim), and patch tokens q (n, patches, token_dim) if they are distilled."""
        images, tower = batch.views["global"][:, 0], net["image"]
        if not self.token_weight:
            seen = tower(images)
            return {REPRESENTATION: seen.detach()[:, None], "p": net["projection"](seen)}
        assert isinstance(tower, TokenTower), "patches of a tower without. This is a bug"
        tokens = tower.tokens(images)
        seen = tokens[:, 0]
        q = net["token_projection"](tokens[:, 1:])
        return {REPRESENTATION: seen.detach()[:, None], "p": net["projection"](seen), "q": q}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the distance of the student from its teachers."""
        p = inputs.student["p"]
        loss = away(p, inputs.extra["teacher"])
        if not self.token_weight:
            return {"loss": loss}
        q = inputs.student["q"]
        patches = away(q, fit_grid(inputs.extra["teacher_tokens"].to(q), q.shape[1]))
        return {"loss": loss + self.token_weight * patches, "patch_loss": patches}

    def chance(self, batch: int) -> float:
        """1 for embeddings and for tokens: orthogonal to the teacher's."""
        return 1.0 + self.token_weight

    def _check_tokens(self, has_patches: bool) -> None:
        if not self.teachers.token_dim:
            raise InputError(
                f"token_weight is {self.token_weight}, and teachers {self.teachers.sources!r} give"
                " no patch tokens: bundles hold embeddings alone. Name a run, timm:NAME or"
                " open_clip:ARCH whose tower is a vision transformer, or --set token_weight=0",
                field="token_weight",
            )
        if not has_patches:
            raise InputError(
                f"token_weight is {self.token_weight}, and the student's encoder has no patches;"
                " --set encoder=vit-tiny, or token_weight=0",
                field="encoder",
            )


def away(rows: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - cosine along the last dimension, the mean over rows."""
    return (1 - torch.cosine_similarity(rows, targets.to(rows), dim=-1)).mean()


def distilled_crops() -> Crops:
    """Return a view that keeps most of the picture, close to how it is served."""
    return Crops(
        1,
        scale_min=0.4,
        jitter=0.5,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.0,
        grey=0.0,
        blur=(0.0,),
    )
