"""Tiles of a view, each somewhere in its cell of a grid, and the draws of a puzzle over them.

A puzzle asks for one of a few answers per image: how its tiles are shuffled, or on which side of
the middle one a tile lies. What must stay true: answers and places are drawn on the CPU from the
batch's generator, so they belong to their image for any number of ranks, chunks or micro-batches.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlens.errors import InputError

POOL = 20_000  # candidates for the most different orders
EPS = 1e-6


@dataclass(frozen=True)
class Puzzle:
    """The draws for each image: `answer` (n,), and `shifts` (n, tiles, 2) of 0 to 1."""

    answers: int
    tiles: int


def draw_puzzles(generator: torch.Generator, puzzle: Puzzle, n: int) -> dict[str, Tensor]:
    """Return the answers and shifts of n images."""
    answer = torch.randint(puzzle.answers, (n,), generator=generator)
    return {"answer": answer, "shifts": torch.rand(n, puzzle.tiles, 2, generator=generator)}


def tile_side(side: int, grid: int, share: float, step: int) -> int:
    """Return the side of a tile: `share` of a cell's, a multiple of `step` (a tower's patch)."""
    cell = side // grid
    if cell < step:
        raise InputError(
            f"grid is {grid}, and a view of {side} pixels has cells of {cell}, which hold no patch"
            f" of {step}; --set image_size={grid * step}, or an encoder with smaller patches",
            field="grid",
        )
    return max(1, int(cell * share + EPS) // step) * step


def cut_tiles(images: Tensor, shifts: Tensor, places: Tensor, grid: int, size: int) -> Tensor:
    """Return tiles (n, k, 3, size, size) of images (n, 3, h, h), from cells `places` (n, k).

    `shifts` (n, k, 2) is the position of each in its cell, down and across: 0 to 1.
    """
    cell = images.shape[-1] // grid
    room = cell - size + 1
    moved = (shifts * room).long().clamp(max=room - 1)
    top = places // grid * cell + moved[..., 0]
    left = places % grid * cell + moved[..., 1]
    line = torch.arange(size, device=images.device)
    rows = (top[..., None] + line)[:, :, None, :, None]
    columns = (left[..., None] + line)[:, :, None, None, :]
    image = torch.arange(len(images), device=images.device)[:, None, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return images[image, channel, rows, columns]


def standardise_tiles(tiles: Tensor) -> Tensor:
    """Return tiles with mean 0 and deviation 1 each: brightness would reveal neighbours."""
    flat = tiles.flatten(2)
    var, mean = torch.var_mean(flat, dim=-1, keepdim=True)
    return ((flat - mean) * (var + EPS).rsqrt()).view_as(tiles)


def count_orders(tiles: int, most: int = POOL) -> int:
    """Return the number of possible orders of tiles."""
    return min(most, math.factorial(tiles))


@functools.cache
def choose_orders(tiles: int, count: int) -> NDArray[np.int64]:
    """Return `count` orders (count, tiles) that differ from each other as much as possible.

    Greedily: the next order is the one that differs most, summed over those chosen. For few tiles
    all orders are candidates, for many a fixed pool.
    """
    pool = _draw_pool(tiles)
    chosen, differs = [0], np.zeros(len(pool), dtype=np.int64)
    for _ in range(count - 1):
        differs += (pool != pool[chosen[-1]]).sum(axis=1)
        differs[chosen[-1]] = -(2**62)
        chosen.append(int(differs.argmax()))
    return pool[chosen]


def _draw_pool(tiles: int) -> NDArray[np.int64]:
    draws = np.random.default_rng(0)
    size = 4 * POOL if math.factorial(tiles) > POOL else 40 * math.factorial(tiles)
    pool = draws.permuted(np.tile(np.arange(tiles), (size, 1)), axis=1)
    unique = np.unique(pool, axis=0)
    found: NDArray[np.int64] = draws.permutation(unique)[: count_orders(tiles)]
    return found
