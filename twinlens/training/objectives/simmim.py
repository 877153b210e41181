"""SimMIM: mask tokens replace hidden patches, and a linear layer predicts their pixels.

Xie et al. 2021, https://arxiv.org/abs/2111.09886.
    loss = sum over hidden pixels |prediction - pixel| / number of hidden values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import Network
from twinlens.training.nn.reconstruction import Token, cut_patches, masked_mean
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Extra,
    LossInputs,
    Objective,
)
from twinlens.training.objectives.mae import plain_crop
from twinlens.training.views.crops import Crops
from twinlens.training.views.masks import Masks


@dataclass(frozen=True)
class SimMIM(Objective):
    """Masked image modelling with a linear head."""

    name: ClassVar[str] = "simmim"
    summary: ClassVar[str] = "predict hidden pixels by a linear layer; needs a vit"
    coupled: ClassVar[bool] = False

    ratio: float = 0.6
    unit: int = 2  # side in patches of the squares that are hidden together
    crops: Crops = field(default_factory=lambda: plain_crop())

    def views(self) -> Mapping[str, Crops]:
        """One crop in its own colours."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Masks: random squares of patches, the same number in each image."""
        return (Masks("random", self.ratio, self.ratio, unit=self.unit),)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The mask token and the linear layer back to pixels."""
        values = 3 * widths["patch"] ** 2
        return {"mask_token": Token(widths["inner"]), "pixels": nn.Linear(widths["image"], values)}

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return predicted `pixels` and their `target`, (n, patches, values)."""
        images, mask = batch.views["global"][:, 0], batch.extra["mask"][:, 0]
        tower = net["image"]
        assert isinstance(tower, TokenTower)
        tokens = tower.tokens(images, hidden=mask, mask_token=net["mask_token"]())
        return {
            REPRESENTATION: tokens[:, :1].detach(),
            "pixels": net["pixels"](tokens[:, 1:]),
            "target": cut_patches(images, tower.patch),
        }

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the absolute error on hidden patches."""
        error = (inputs.student["pixels"] - inputs.student["target"]).abs().mean(dim=-1)
        return {"loss": masked_mean(error, inputs.extra["mask"][:, 0])}

    def chance(self, batch: int) -> float:
        """Sqrt(2 / pi): a grey prediction for normally distributed pixels."""
        return math.sqrt(2 / math.pi)
