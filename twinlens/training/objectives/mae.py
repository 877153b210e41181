"""MAE: reconstruct an image from a quarter of its patches (He et al. 2021).

https://arxiv.org/abs/2111.06377. The encoder sees only the kept patches; a small decoder predicts
the hidden ones, each standardised by its own mean and unbiased deviation:
    loss = mean over hidden patches of mean (prediction - target)^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import Network
from twinlens.training.nn.reconstruction import (
    Decoder,
    cut_patches,
    masked_mean,
    standardise_patches,
)
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Extra,
    LossInputs,
    Objective,
)
from twinlens.training.views.crops import Crops
from twinlens.training.views.masks import Masks


@dataclass(frozen=True)
class MAE(Objective):
    """Masked autoencoding of pixels."""

    name: ClassVar[str] = "mae"
    summary: ClassVar[str] = "reconstruct the hidden three quarters of an image; needs a vit"
    coupled: ClassVar[bool] = False

    ratio: float = 0.75
    width: int = 128  # width of the decoder
    depth: int = 2
    attention_heads: int = 4
    crops: Crops = field(default_factory=lambda: plain_crop())

    def views(self) -> Mapping[str, Crops]:
        """One crop in its own colours."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Masks: single patches at random, the same number in each image."""
        return (self._masks(),)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The decoder."""
        values = 3 * widths["patch"] ** 2
        decoder = Decoder(widths["image"], self.width, self.depth, self.attention_heads, values)
        return {"decoder": decoder}

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return predicted `pixels` and their `target`, (n, patches, values)."""
        images, mask = batch.views["global"][:, 0], batch.extra["mask"][:, 0]
        tower = net["image"]
        assert isinstance(tower, TokenTower)
        patches = mask.shape[1]
        kept = patches - self._masks().count(patches)
        keep: Tensor = mask.int().argsort(dim=1, stable=True)[:, :kept]
        tokens = tower.tokens(images, keep=keep)
        return {
            REPRESENTATION: tokens[:, :1].detach(),
            "pixels": net["decoder"](tokens, keep, patches),
            "target": standardise_patches(cut_patches(images, tower.patch)),
        }

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the squared error on hidden patches."""
        error = (inputs.student["pixels"] - inputs.student["target"]).square().mean(dim=-1)
        return {"loss": masked_mean(error, inputs.extra["mask"][:, 0])}

    def chance(self, batch: int) -> float:
        """1: a decoder that predicts 0. Exactly (P - 1) / P for patches of P values."""
        return 1.0

    def _masks(self) -> Masks:
        return Masks("random", self.ratio, self.ratio)


def plain_crop() -> Crops:
    """Return a crop with a flip and no other augmentation."""
    return Crops(1, jitter=0.0, grey=0.0, blur=(0.0,))
