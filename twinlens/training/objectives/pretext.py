"""Base of pretext tasks with a few possible answers: cross-entropy and accuracy.

What must stay true: rows are `logits` (n, questions, answers), and the right answers come from the
batch.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Extra,
    LossInputs,
    Objective,
)
from twinlens.training.views.crops import Crops
from twinlens.training.views.tiles import Puzzle, cut_tiles, standardise_tiles, tile_side


@dataclass(frozen=True)
class PretextTask(Objective):
    """Questions about an image, each with the same few answers."""

    coupled: ClassVar[bool] = False

    @abc.abstractmethod
    def answers(self) -> int:
        """Return the number of answers."""

    @abc.abstractmethod
    def right(self, inputs: LossInputs) -> Tensor:
        """Return the numbers of the right answers (n, questions)."""

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the mean cross-entropy, and the share of questions that are answered correctly."""
        logs = inputs.student["logits"].log_softmax(dim=-1)
        right = self.right(inputs)
        hits = (logs.detach().argmax(dim=-1) == right).to(logs.dtype).mean()
        return {"loss": -logs.gather(-1, right[..., None]).mean(), "accuracy": hits}

    def chance(self, batch: int) -> float:
        """Ln of the answers: each is as likely."""
        return math.log(self.answers())


@dataclass(frozen=True)
class TilePuzzle(PretextTask):
    """One question about the tiles of an image, which the encoder sees separately."""

    grid: int = 3  # tiles along a side
    tile: float = 0.75  # side of a tile as a share of its cell's; the rest is room to move
    hidden: int = 512
    dropout: float = 0.0  # after the hidden layer
    crops: Crops = field(default_factory=lambda: Crops(1, blur=(0.0,)))

    @abc.abstractmethod
    def shown(self) -> int:
        """Return the number of tiles that are shown."""

    @abc.abstractmethod
    def places(self, answer: Tensor) -> Tensor:
        """Return the cells (n, shown) of the tiles, if `answer` (n,) is right."""

    def views(self) -> Mapping[str, Crops]:
        """One crop, of which tiles are cut."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """The answers, and the positions of tiles in their cells."""
        return (Puzzle(self.answers(), self.shown()),)

    def check_tiles(self, widths: Mapping[str, int]) -> None:
        """Refuse a grid whose cells are smaller than a patch of the encoder."""
        side = self.crops.side(widths["side"])
        tile_side(side, self.grid, self.tile, widths.get("patch", 1))

    def see_tiles(self, net: Network, batch: Batch) -> Tensor:
        """Return the encoder's row for each tile (n, shown, width), in the shown order."""
        images, tower = batch.views["global"][:, 0], net["image"]
        step = tower.patch if isinstance(tower, TokenTower) else 1
        size = tile_side(images.shape[-1], self.grid, self.tile, step)
        places = self.places(batch.extra["answer"])
        tiles = cut_tiles(images, batch.extra["shifts"], places, self.grid, size)
        answered: Tensor = tower(standardise_tiles(tiles).flatten(0, 1))
        seen: Tensor = answered.unflatten(0, (len(images), self.shown()))
        return seen

    def right(self, inputs: LossInputs) -> Tensor:
        """Return the answers that were drawn."""
        return inputs.extra["answer"][:, None]


def tile_rows(seen: Tensor, logits: Tensor) -> BatchRows:
    """Return the rows of one question about encoded tiles (n, shown, width)."""
    middle = seen.detach().mean(dim=1, keepdim=True)
    return {REPRESENTATION: middle, "logits": logits[:, None]}


class TileHead(nn.Module):
    """Tiles (n, shown, width) to logits (n, answers): each narrowed, then all concatenated."""

    def __init__(self, width: int, narrow: int, rest: nn.Module) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, narrow)
        self.rest = rest

    def forward(self, seen: Tensor) -> Tensor:
        """Return the logits."""
        found: Tensor = self.rest(torch.relu(self.narrow(seen)).flatten(1))
        return found
