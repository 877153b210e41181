"""SimCLR: two views of an image find each other among all views of the batch.

Chen et al. 2020, https://arxiv.org/abs/2002.05709. For each of the 2n views, with unit rows z,
    loss = -log exp(z_i z_j / T) / sum over k != i of exp(z_i z_k / T)    (j: the other view).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from twinlens.training.nn.contrast import nt_xent_loss
from twinlens.training.nn.heads import mlp
from twinlens.training.objective import BatchRows, LossInputs
from twinlens.training.objectives.projected import ProjectedViews


@dataclass(frozen=True)
class SimCLR(ProjectedViews):
    """NT-Xent over two views."""

    name: ClassVar[str] = "simclr"
    summary: ClassVar[str] = "two views find each other among the batch"

    temperature: float = 0.2
    layers: int = 2  # of the projector; 0 = none: the encoder's own output is compared
    dropout: float = 0.0  # after each ReLU of the projector

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The projector."""
        if self.layers < 1:
            return {"projector": nn.Identity()}
        sizes = (widths["image"], *[self.hidden] * (self.layers - 1), self.dim)
        return {"projector": mlp(sizes, dropout=self.dropout)}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return NT-Xent."""
        first, second = inputs.student["z"].unbind(1)
        return {"loss": nt_xent_loss(first, second, 1 / self.temperature)}

    def chance(self, batch: int) -> float:
        """ln(2n - 1): every other view is as likely."""
        return math.log(2 * batch - 1)
