"""Autoencoder: reconstruct a picture from a narrow code (Hinton & Salakhutdinov 2006).

With `noise` it is a denoising one (Vincent et al. 2008, 2010): the encoder sees a corrupted view,
and the clean one is the target. With the code c = W f(corrupted x) and a small convolutional
decoder g,
    loss = mean over images and pixels of (g(c) - x)^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from twinlens.errors import InputError
from twinlens.training.nn.network import Network
from twinlens.training.nn.painting import CodePainter
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
from twinlens.training.views.noise import Noise


@dataclass(frozen=True)
class Autoencoder(Objective):
    """Reconstruction of pixels from one row per image."""

    name: ClassVar[str] = "autoencoder"
    summary: ClassVar[str] = "reconstruct a picture from a narrow code; from a corrupted one if set"
    coupled: ClassVar[bool] = False

    noise: Literal["none", "gaussian", "masking"] = "none"
    amount: float = 0.25  # standard deviation of the noise, or the share of masked pixels
    dim: int = 64  # width of the code
    width: int = 32  # width of the decoder
    layers: int = 3
    crops: Crops = field(default_factory=lambda: plain_crop())

    def views(self) -> Mapping[str, Crops]:
        """One crop in its own colours."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Corrupted views with their originals, if there is noise."""
        return () if self.noise == "none" else (Noise(self.noise, self.amount),)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The layer to the code, and the decoder."""
        if self.noise == "masking" and self.amount >= 1:
            raise InputError(
                f"amount is {self.amount:g}, and masking blanks a share of the pixels, which must"
                " be below 1; --set amount=0.25, or noise=gaussian",
                field="amount",
            )
        side = self.crops.side(widths["side"])
        return {
            "code": nn.Linear(widths["image"], self.dim),
            "decoder": CodePainter(self.dim, self.width, self.layers, side),
        }

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return reconstructed `pixels` and their `target`, (n, values)."""
        images = batch.views["global"][:, 0]
        seen = net["image"](images)
        pixels = net["decoder"](net["code"](seen))
        target = batch.extra.get("clean", images)
        return {
            REPRESENTATION: seen.detach()[:, None],
            "pixels": pixels.flatten(1),
            "target": target.flatten(1),
        }

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the squared error."""
        error = inputs.student["pixels"] - inputs.student["target"]
        return {"loss": error.square().mean()}

    def chance(self, batch: int) -> float:
        """1: a grey prediction for pixels of deviation 1."""
        return 1.0
