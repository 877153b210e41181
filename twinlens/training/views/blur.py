"""Gaussian blur of planes: two passes of small matrices along the diagonal, not of whole ones.

A row of the blurred image depends on the few rows around it; so sixteen rows at a time are a
product with the rows that lie within the filter's reach. Work grows with the side squared, where
dense matrices grow with its cube.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 4.0  # standard deviations: what lies further weighs 6e-5 in all
BLOCKS = (16, 8)  # rows at a time, where they divide the side


def blur(planes: Tensor, sigma: Tensor) -> Tensor:
    """Return planes (n, 3, s, s) blurred by Gaussians of `sigma` (n,) > 0 pixels."""
    n, channels, side, _ = planes.shape
    block = next((size for size in BLOCKS if side % size == 0), side)
    reach = min(side, block + 2 * math.ceil(REACH * float(sigma.max())))
    starts = [
        min(max(low - (reach - block) // 2, 0), side - reach) for low in range(0, side, block)
    ]
    weights = _bands(sigma.to(planes), starts, side, block, reach)
    weights = weights.repeat_interleave(channels, dim=0)  # (n * channels, blocks, block, reach)
    flat = planes.reshape(n * channels, side, side)
    tall, out = torch.empty_like(flat), torch.empty_like(flat)
    for number, start in enumerate(starts):
        made = slice(number * block, (number + 1) * block)
        torch.bmm(weights[:, number], flat[:, start : start + reach], out=tall[:, made])
    for number, start in enumerate(starts):
        made = slice(number * block, (number + 1) * block)
        torch.bmm(tall[..., start : start + reach], weights[:, number].mT, out=out[..., made])
    return out.view_as(planes)


def blurring(sigma: Tensor, out: int) -> Tensor:
    """Return matrices (n, out, out) that blur by Gaussians of `sigma` pixels; 0 is the identity."""
    return _bands(sigma, [0], out, out, out)[:, 0]


def _bands(sigma: Tensor, starts: list[int], side: int, block: int, reach: int) -> Tensor:
    """Return weights (n, blocks, block, reach) of the pixels from each start on; rows sum to 1."""
    index = torch.arange(side, device=sigma.device)
    # Exponentials of the distances alone, then spread: s of them instead of s squared.
    bell = torch.exp(-index.square() / (2 * sigma.clamp(min=1e-3).square())[:, None])
    first = torch.tensor(starts, device=sigma.device)
    seen = first[:, None] + index[:reach]  # (blocks, reach)
    made = torch.arange(len(starts), device=sigma.device)[:, None] * block + index[:block]
    weight = bell[:, (made[:, :, None] - seen[:, None, :]).abs()]
    return weight / weight.sum(dim=-1, keepdim=True)
