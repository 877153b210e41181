"""Triplet: an anchor is nearer to its own class than to another by a margin (Schroff et al. 2015).

https://arxiv.org/abs/1503.03832. With squared distances d of unit rows over all views of the batch,
    loss = mean over pairs (a, p) of a class of max(0, d(a, p) - d(a, n) + margin),
where n is the nearest row of another class that is farther than p, else the farthest ("semi-hard").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from twinlens.training.objective import BatchRows, LossInputs, unit
from twinlens.training.objectives.projected import LabelledViews


@dataclass(frozen=True)
class Triplet(LabelledViews):
    """Triplets with a margin, over two views."""

    name: ClassVar[str] = "triplet"
    summary: ClassVar[str] = "nearer to the own class than to another by a margin; needs labels"

    margin: float = 0.2

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the mean over the mined triplets, and the share of them with a loss above 0."""
        z, labels = self.labelled_rows(inputs)
        rows = unit(z)
        squared = 2 - 2 * rows @ rows.mT
        same = labels[:, None] == labels
        own = same & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        far, asked = _mine(squared, own, ~same)
        short = torch.where(asked, squared - far + self.margin, 0.0).relu()
        count = asked.sum().clamp(min=1)
        active = (short.detach() > 0).sum() / count
        return {"loss": short.sum() / count, "active": active.to(short)}

    def chance(self, batch: int) -> float:
        """The margin: all rows equal."""
        return self.margin


def _mine(squared: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance to n for each pair, and whether such a triplet exists, (rows, rows)."""
    apart = torch.where(other, squared, math.inf)
    ordered = apart.sort(dim=1).values
    place = torch.searchsorted(ordered.detach(), squared.detach().contiguous(), right=True)
    found = ordered.gather(1, place.clamp(max=len(squared) - 1))
    farther = (place < len(squared)) & found.isfinite()
    last = torch.where(other, squared, -math.inf).amax(dim=1, keepdim=True).expand_as(squared)
    asked = own & other.any(dim=1, keepdim=True)
    far = torch.where(farther, found, last)
    return torch.where(asked, far, 0.0), asked
