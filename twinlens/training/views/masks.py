"""Masks: which patches of a view are hidden, at random or in blocks, exactly as many as asked.

What must stay true: masks are drawn on the CPU from the batch's generator, like everything else of
a view, so a mask belongs to its image for any number of ranks, chunks or micro-batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMALLEST_BLOCK = 4  # cells; smaller holes are filled by single cells
TRIES = 20
ASPECT = 0.3  # the aspect ratio of a block lies between this and its inverse


@dataclass(frozen=True)
class Masks:
    """How the views of the group `global` are masked."""

    kind: Literal["random", "blocks"] = "random"
    ratio_min: float = 0.75  # of the patches
    ratio_max: float = 0.75
    share: float = 1.0  # share of the views that are masked; the others are not masked at all
    unit: int = 1  # side of the smallest hidden cell, in patches

    def count(self, patches: int, ratio: float | None = None) -> int:
        """Return how many of `patches` are hidden at a ratio, by default at the only one."""
        cells = patches // self.unit**2
        return round(cells * (self.ratio_min if ratio is None else ratio)) * self.unit**2


def draw_masks(generator: torch.Generator, masks: Masks, shape: tuple[int, ...]) -> Tensor:
    """Return masks (n, views, patches), True is hidden, for shape (n, views, rows, columns)."""
    n, views, rows, columns = shape
    seed = int(torch.randint(2**62, (), generator=generator))
    draws = np.random.default_rng(seed)
    found = [_draw_one(draws, masks, rows, columns) for _ in range(n * views)]
    return torch.from_numpy(np.stack(found)).view(n, views, rows * columns)


def _draw_one(
    draws: np.random.Generator, masks: Masks, rows: int, columns: int
) -> NDArray[np.bool_]:
    grid = -(-rows // masks.unit), -(-columns // masks.unit)  # a last unit may be cut off
    ratio = draws.uniform(masks.ratio_min, masks.ratio_max)
    count = round(grid[0] * grid[1] * ratio) if draws.uniform() < masks.share else 0
    cells = np.zeros(grid, bool)
    if masks.kind == "blocks":
        _add_blocks(draws, cells, count)
    free = np.flatnonzero(~cells.ravel())
    cells.ravel()[draws.permutation(free)[: count - int(cells.sum())]] = True
    return cells.repeat(masks.unit, axis=0).repeat(masks.unit, axis=1)[:rows, :columns]


def _add_blocks(draws: np.random.Generator, cells: NDArray[np.bool_], count: int) -> None:
    """Hide rectangles until `count` cells are hidden, or no rectangle fits."""
    for _ in range(TRIES):
        room = count - int(cells.sum())
        if room < SMALLEST_BLOCK:
            return
        area = draws.uniform(SMALLEST_BLOCK, room)
        ratio = math.exp(draws.uniform(math.log(ASPECT), -math.log(ASPECT)))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if not (0 < height <= cells.shape[0] and 0 < width <= cells.shape[1]):
            continue
        top = draws.integers(cells.shape[0] - height + 1)
        left = draws.integers(cells.shape[1] - width + 1)
        block = cells[top : top + height, left : left + width]
        if int((~block).sum()) <= room:
            block[...] = True
