"""Jigsaw: predict by which of a set of orders the tiles of an image are shuffled (Noroozi 2016).

Noroozi & Favaro 2016, https://arxiv.org/abs/1603.09246. Each tile lies somewhere in its cell, is
standardised to mean 0 and deviation 1, and is encoded separately; the concatenation in shuffled
order predicts the order: loss = mean over images of CE(head(f(x_{o(1)}), ..., f(x_{o(9)})), o).
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
from twinlens.training.objectives.pretext import TileHead, TilePuzzle, tile_rows
from twinlens.training.views.tiles import choose_orders, count_orders


@dataclass(frozen=True)
class Jigsaw(TilePuzzle):
    """Classification of shuffled tiles."""

    name: ClassVar[str] = "jigsaw"
    summary: ClassVar[str] = "predict the order of shuffled tiles of an image"

    orders: int = 100  # number of orders, chosen to differ as much as possible
    narrow: int = 128  # width of each tile before concatenation

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A narrow layer for each tile, and two layers for all of them."""
        self.check_tiles(widths)
        most = count_orders(self.shown())
        if self.orders > most:
            raise InputError(
                f"orders is {self.orders}, and {self.shown()} tiles have {most} to choose from;"
                f" --set orders={most}, or a larger grid",
                field="orders",
            )
        rest = mlp((self.shown() * self.narrow, self.hidden, self.orders), dropout=self.dropout)
        return {"puzzle": TileHead(widths["image"], self.narrow, rest)}

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return logits (n, 1, orders)."""
        seen = self.see_tiles(net, batch)
        return tile_rows(seen, net["puzzle"](seen))

    def answers(self) -> int:
        """One for each order."""
        return self.orders

    def shown(self) -> int:
        """All tiles."""
        return self.grid**2

    def places(self, answer: Tensor) -> Tensor:
        """Return the cells in the drawn order."""
        orders = torch.from_numpy(choose_orders(self.shown(), self.orders))
        return orders.to(answer.device)[answer]
