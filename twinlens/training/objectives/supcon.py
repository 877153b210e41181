"""SupCon: views of the same class find each other (Khosla et al. 2020).

https://arxiv.org/abs/2004.11362, with the mean over positives outside the logarithm:
    loss = -(T / T_base) mean over anchors, mean over positives of log p(positive | anchor).
An anchor without positives contributes 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from twinlens.training.nn.contrast import supcon_loss
from twinlens.training.objective import BatchRows, LossInputs
from twinlens.training.objectives.projected import LabelledViews


@dataclass(frozen=True)
class SupCon(LabelledViews):
    """Supervised contrast over two views."""

    name: ClassVar[str] = "supcon"
    summary: ClassVar[str] = "views of the same class find each other; needs labels"

    temperature: float = 0.1
    base_temperature: float = 0.07

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the supervised contrastive loss over all views."""
        loss = supcon_loss(*self.labelled_rows(inputs), 1 / self.temperature)
        return {"loss": self.temperature / self.base_temperature * loss}

    def chance(self, batch: int) -> float:
        """(T / T_base) ln(2n - 1): every other view is as likely."""
        return self.temperature / self.base_temperature * math.log(2 * batch - 1)
