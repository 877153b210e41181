"""Margin contrast: the same class together, others at least a margin apart (Chopra 2005).

Chopra, Hadsell & LeCun 2005, "Learning a Similarity Metric Discriminatively"; the form of Hadsell
et al. 2006. Over all pairs of different views, at distance d of their unit rows,
    loss = mean over pairs of d^2 if of the same class, max(0, margin - d)^2 if not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from twinlens.training.heads import mlp
from twinlens.training.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Anatomy,
    Batch,
    Given,
    Objective,
    Rows,
    per_view,
    unit,
)
from twinlens.training.views.crops import Crops

EPS = 1e-12  # under the root: the distance of equal rows has no slope


@dataclass(frozen=True)
class Margin(Objective):
    """Pairwise contrast with a margin, over two views."""

    name: ClassVar[str] = "margin"
    summary: ClassVar[str] = "pairs of a class together, others a margin apart; needs labels"
    coupled: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    anatomy: ClassVar[Anatomy] = Anatomy(head="z", unit=("z",))

    margin: float = 1.0
    hidden: int = 512
    dim: int = 128
    crops: Crops = field(default_factory=Crops)

    def views(self) -> Mapping[str, Crops]:
        """Two equal views."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A two-layer projector."""
        return {"projector": mlp((widths["image"], self.hidden, self.dim))}

    def student(self, net: Network, batch: Batch) -> Rows:
        """Return z (n, 2, dim)."""
        seen, z = per_view(net, ("image", "projector"), batch.views["global"])
        return {REPRESENTATION: seen, "z": z}

    def loss(self, given: Given) -> Rows:
        """Return the mean over pairs, and the means of both kinds of pairs."""
        rows = unit(given.student["z"]).transpose(0, 1).flatten(0, 1)
        labels = given.extra["labels"].repeat(given.student["z"].shape[1])
        first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
        squared = (rows[first] - rows[second]).square().sum(dim=1)
        same = labels[first] == labels[second]
        short = (self.margin - (squared + EPS).sqrt()).relu().square()
        pulled = torch.where(same, squared, 0.0).sum() / len(squared)
        pushed = torch.where(same, 0.0, short).sum() / len(squared)
        return {"loss": pulled + pushed, "pulled": pulled, "pushed": pushed}

    def chance(self, batch: int) -> float:
        """margin^2, nearly: all rows equal, and nearly all pairs are of different classes."""
        return self.margin**2
