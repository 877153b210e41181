"""Triplet: an anchor is nearer to its own class than to another by a margin (Schroff et al. 2015).

https://arxiv.org/abs/1503.03832. At squared distances d of unit rows over all views of the batch,
    loss = mean over pairs (a, p) of a class of max(0, d(a, p) - d(a, n) + margin),
where n is the nearest of another class that is farther than p, else the farthest ("semi-hard").
"hard" (Hermans et al. 2017) takes for each anchor the farthest p and the nearest n, by d's root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from twinlens.training.objective import BatchRows, LossInputs, unit
from twinlens.training.objectives.projected import LabelledViews

EPS = 1e-12  # under the root: the distance of equal rows has no slope


@dataclass(frozen=True)
class Triplet(LabelledViews):
    """Triplets with a margin, over two views."""

    name: ClassVar[str] = "triplet"
    summary: ClassVar[str] = "nearer to the own class than to another by a margin; needs labels"

    margin: float = 0.2
    mining: Literal["semi-hard", "hard"] = "semi-hard"

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the mean over the triplets that are mined, and the share that is not at 0."""
        z, labels = self.labelled_rows(inputs)
        rows = unit(z)
        squared = 2 - 2 * rows @ rows.mT
        same = labels[:, None] == labels
        own = same & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        mine = _mine_hard if self.mining == "hard" else _mine_semi_hard
        near, far, asked = mine(squared, own, ~same)
        short = torch.where(asked, near - far + self.margin, 0.0).relu()
        count = asked.sum().clamp(min=1)
        active = (short.detach() > 0).sum() / count
        return {"loss": short.sum() / count, "active": active.to(short)}

    def chance(self, batch: int) -> float:
        """The margin: all rows equal."""
        return self.margin


def _mine_semi_hard(squared: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances to p and to n, and whether there is such a triplet, (rows, rows) each."""
    apart = torch.where(other, squared, math.inf)
    ordered = apart.sort(dim=1).values
    place = torch.searchsorted(ordered.detach(), squared.detach().contiguous(), right=True)
    found = ordered.gather(1, place.clamp(max=len(squared) - 1))
    farther = (place < len(squared)) & found.isfinite()
    last = torch.where(other, squared, -math.inf).amax(dim=1, keepdim=True).expand_as(squared)
    asked = own & other.any(dim=1, keepdim=True)
    far = torch.where(farther, found, last)
    return squared, torch.where(asked, far, 0.0), asked


def _mine_hard(squared: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same for one triplet an anchor, (rows,) each; distances are not squared."""
    apart = (squared.clamp(min=0) + EPS).sqrt()
    near = torch.where(own, apart, -math.inf).amax(dim=1)
    far = torch.where(other, apart, math.inf).amin(dim=1)
    asked = own.any(dim=1) & other.any(dim=1)
    return torch.where(asked, near, 0.0), torch.where(asked, far, 0.0), asked
