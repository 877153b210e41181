"""BEiT: predict the visual codes of hidden patches (Bao et al. 2021).

https://arxiv.org/abs/2106.08254. A tokenizer, trained first and then fixed, gives each patch one of
K codes; the encoder sees mask tokens instead of hidden patches, and a linear layer predicts
their codes:    loss = mean over hidden patches of CE(prediction, code).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import Network
from twinlens.training.nn.reconstruction import Token, masked_mean
from twinlens.training.nn.visual_tokenizer import TRAIN, Codes
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
class BEiT(Objective):
    """Masked image modelling over visual codes."""

    name: ClassVar[str] = "beit"
    summary: ClassVar[str] = "predict the visual codes of hidden patches; needs a vit"
    coupled: ClassVar[bool] = False

    size: int = 512  # number of codes
    ratio: float = 0.4
    tokenizer: str = TRAIN  # or the visual_tokenizer.safetensors of another run
    tokenizer_steps: int = 500
    crops: Crops = field(default_factory=lambda: plain_crop())

    def views(self) -> Mapping[str, Crops]:
        """One crop in its own colours."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Masks in blocks, equally many patches in each image, and the tokenizer's codes."""
        masks = Masks("blocks", self.ratio, self.ratio)
        return masks, Codes(self.size, self.tokenizer, self.tokenizer_steps)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The mask token and the linear layer to codes."""
        width = widths["image"]
        return {"mask_token": Token(widths["inner"]), "codes": nn.Linear(width, self.size)}

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return the logits of each code (n, patches, size)."""
        images, mask = batch.views["global"][:, 0], batch.extra["mask"][:, 0]
        tower = net["image"]
        assert isinstance(tower, TokenTower)
        tokens = tower.tokens(images, hidden=mask, mask_token=net["mask_token"]())
        return {REPRESENTATION: tokens[:, :1].detach(), "logits": net["codes"](tokens[:, 1:])}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the cross-entropy on hidden patches."""
        logs = inputs.student["logits"].log_softmax(dim=-1)
        error = -logs.gather(-1, inputs.extra["codes"][..., None])[..., 0]
        return {"loss": masked_mean(error, inputs.extra["mask"][:, 0])}

    def chance(self, batch: int) -> float:
        """Ln K: every code is as likely."""
        return math.log(self.size)
