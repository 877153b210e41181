"""CPC: from the patches above, identify the patch below (van den Oord et al. 2018).

https://arxiv.org/abs/1807.03748, with the overlapping patches of Henaff et al. 2019. An image is
cut into a grid of half-overlapping patches; each is encoded by itself; a GRU reads each column from
the top; with its state c_r and one linear map W_k for each distance,
    loss = -mean log exp(W_k c_r . z_{r+k} / T) / sum over all patches of the batch, unit rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.contrast import one_way_loss
from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    HealthSpec,
    LossInputs,
    Objective,
)
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class CPC(Objective):
    """InfoNCE over predicted patches."""

    name: ClassVar[str] = "cpc"
    summary: ClassVar[str] = "from the patches above, identify the patch below among the batch"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="z", unit=("p", "z"))

    grid: int = 3  # patches along a side; each is 2 / (grid + 1) of the image wide
    ahead: int = 2  # maximum number of predicted rows
    dim: int = 128
    temperature: float = 0.1
    crops: Crops = field(default_factory=lambda: Crops(1, blur=(0.0,)))

    def views(self) -> Mapping[str, Crops]:
        """One crop."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The projection of a patch, the GRU over a column, and a linear map for each distance."""
        maps = [nn.Linear(self.dim, self.dim, bias=False) for _ in range(self.ahead)]
        return {
            "projector": nn.Linear(widths["image"], self.dim),
            "reader": nn.GRU(self.dim, self.dim, batch_first=True),
            "maps": nn.ModuleList(maps),
        }

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return predictions p and their target patches z (n, questions, dim)."""
        patches = cut_overlapping(batch.views["global"][:, 0], self.grid)  # (n, g, g, 3, s, s)
        n, g = patches.shape[:2]
        seen = net["image"](patches.flatten(0, 2)).unflatten(0, (n, g, g))
        z = net["projector"](seen)  # (n, row, column, dim)
        columns = z.transpose(1, 2).flatten(0, 1)
        context = net["reader"](columns)[0].unflatten(0, (n, g)).transpose(1, 2)
        maps = net["maps"]
        assert isinstance(maps, nn.ModuleList)
        predictions = [maps[k - 1](context[:, : g - k]).flatten(1, 2) for k in self._distances()]
        targets = [z[:, k:].flatten(1, 2) for k in self._distances()]
        seen = seen.detach().flatten(1, 2).mean(dim=1, keepdim=True)
        return {REPRESENTATION: seen, "p": torch.cat(predictions, 1), "z": torch.cat(targets, 1)}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return InfoNCE of each prediction among the patches at the same distance and place."""
        p, z = inputs.student["p"], inputs.student["z"]
        losses, start = [], 0
        for k in self._distances():
            stop = start + (self.grid - k) * self.grid
            predictions, targets = p[:, start:stop].flatten(0, 1), z[:, start:stop].flatten(0, 1)
            losses.append(one_way_loss(predictions, targets, 1 / self.temperature))
            start = stop
        return {"loss": torch.stack(losses).mean()}

    def chance(self, batch: int) -> float:
        """Mean over distances k of ln(n g (g - k)): every patch is equally likely."""
        sizes = [batch * self.grid * (self.grid - k) for k in self._distances()]
        return sum(map(math.log, sizes)) / len(sizes)

    def _distances(self) -> range:
        return range(1, self.ahead + 1)


def cut_overlapping(images: Tensor, grid: int) -> Tensor:
    """Return half-overlapping patches (n, grid, grid, 3, s, s) of images (n, 3, h, h)."""
    step = images.shape[-1] // (grid + 1)
    cells = images.unfold(2, 2 * step, step).unfold(3, 2 * step, step)
    return cells[:, :, :grid, :grid].permute(0, 2, 3, 1, 4, 5)
