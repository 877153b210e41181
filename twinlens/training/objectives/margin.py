"""Margin contrast: the same class together, others at least a margin apart (Chopra 2005).

Chopra, Hadsell & LeCun 2005, "Learning a Similarity Metric Discriminatively"; the form of Hadsell
et al. 2006. Over all pairs of different views, at distance d of their unit rows,
    loss = mean over pairs of d^2 if of the same class, max(0, margin - d)^2 if not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from twinlens.training.objective import BatchRows, LossInputs, unit
from twinlens.training.objectives.projected import LabelledViews

EPS = 1e-12  # under the root: it has no gradient at 0, where rows are equal


@dataclass(frozen=True)
class Margin(LabelledViews):
    """Pairwise contrast with a margin, over two views."""

    name: ClassVar[str] = "margin"
    summary: ClassVar[str] = "pairs of a class together, others a margin apart; needs labels"

    margin: float = 1.0

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the mean over pairs, and the means over both kinds of pairs."""
        z, labels = self.labelled_rows(inputs)
        rows = unit(z)
        first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
        squared = (rows[first] - rows[second]).square().sum(dim=1)
        same = labels[first] == labels[second]
        short = (self.margin - (squared + EPS).sqrt()).relu().square()
        pulled = torch.where(same, squared, 0.0).sum() / len(squared)
        pushed = torch.where(same, 0.0, short).sum() / len(squared)
        return {"loss": pulled + pushed, "pulled": pulled, "pushed": pushed}

    def chance(self, batch: int) -> float:
        """About margin^2: all rows equal, and almost all pairs of different classes."""
        return self.margin**2
