"""Gaussian blur of planes: two passes of banded matrices, stored as small blocks.

A row of the blurred image depends on the few rows around it, so sixteen rows at a time are a
product with the rows within the filter's reach. Work grows with the square of the side; with dense
matrices it would grow with the cube.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 4.0  # standard deviations: all weights beyond sum to 6e-5
LEAST = 1e-9  # of the largest weight; smaller ones change nothing, and denormal numbers are slow
BLOCKS = (16, 8)  # rows at a time, where they divide the side


def blur(planes: Tensor, sigma: Tensor, widest: float | None = None) -> Tensor:
    """Return planes (n, 3, s, s) blurred by Gaussians of `sigma` (n,) pixels.

    `widest` bounds them; without it their maximum is read, for which an accelerator must wait.
    """
    n, channels, side, _ = planes.shape
    block = next((size for size in BLOCKS if side % size == 0), side)
    widest = float(sigma.max()) if widest is None else widest
    reach = min(side, block + 2 * math.ceil(REACH * widest))
    weights = weigh_bands(sigma.to(planes), side, block, reach)
    weights = weights.repeat_interleave(channels, dim=0)  # (n * channels, blocks, block, reach)
    flat = planes.reshape(n * channels, side, side)
    spans = [
        slice(start, start + reach)
        for start in (_start(low, side, block, reach) for low in range(0, side, block))
    ]
    tall = torch.cat(
        [torch.bmm(weights[:, i], flat[:, span]) for i, span in enumerate(spans)], dim=1
    )
    out = [torch.bmm(tall[..., span], weights[:, i].mT) for i, span in enumerate(spans)]
    return torch.cat(out, dim=2).view_as(planes)


def _start(low: int, side: int, block: int, reach: int) -> int:
    """Return the first pixel that contributes to the rows from `low` on."""
    return min(max(low - (reach - block) // 2, 0), side - reach)


def weigh_bands(sigma: Tensor, side: int, block: int, reach: int) -> Tensor:
    """Return weights (n, blocks, block, reach) of the pixels from each start on; rows sum to 1."""
    index = torch.arange(side, device=sigma.device)
    # Exponentials of the distances alone, then spread out: s of them instead of s squared.
    bell = torch.exp(-index.square() / (2 * sigma.clamp(min=1e-3).square())[:, None])
    bell *= bell > LEAST
    low = torch.arange(0, side, block, device=sigma.device)[:, None]
    seen = (low - (reach - block) // 2).clamp(0, side - reach) + index[:reach]  # (blocks, reach)
    made = low + index[:block]
    weight = bell[:, (made[:, :, None] - seen[:, None, :]).abs()]
    return weight / weight.sum(dim=-1, keepdim=True)
