"""Context: predict where a tile lies relative to the middle one (Doersch et al. 2015).

https://arxiv.org/abs/1505.05192. The middle tile of a 3 x 3 grid and one of its eight neighbours,
each somewhere in its cell with a gap between them, are encoded separately; their concatenation
predicts the neighbour: loss = mean over images of CE(head(f(middle), f(neighbour)), place).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.errors import InputError
from twinlens.training.nn.heads import mlp
from twinlens.training.nn.network import Network
from twinlens.training.objective import Batch, BatchRows
from twinlens.training.objectives.pretext import TilePuzzle, tile_rows


@dataclass(frozen=True)
class Context(TilePuzzle):
    """Classification of a tile's position."""

    name: ClassVar[str] = "context"
    summary: ClassVar[str] = "predict on which side of the middle tile another one lies"

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """Two layers over both tiles."""
        if self.grid % 2 == 0:
            raise InputError(
                f"grid is {self.grid}, which has no middle tile; --set grid=3", field="grid"
            )
        self.check_tiles(widths)
        return {
            "side": mlp((2 * widths["image"], self.hidden, self.answers()), dropout=self.dropout)
        }

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return logits (n, 1, neighbours)."""
        seen = self.see_tiles(net, batch)
        return tile_rows(seen, net["side"](seen.flatten(1)))

    def answers(self) -> int:
        """One for each cell but the middle one."""
        return self.grid**2 - 1

    def shown(self) -> int:
        """The middle tile and another one."""
        return 2

    def places(self, answer: Tensor) -> Tensor:
        """Return the middle cell and the neighbour's, whose numbers skip the middle."""
        middle = self.grid**2 // 2
        neighbour = answer + (answer >= middle).long()
        return torch.stack([torch.full_like(answer, middle), neighbour], dim=1)
