"""Augmentation that keeps every caption true: red stays red, left stays left, words stay readable.

Shapes are turned a little, scaled, shifted and stretched; only photographs are mirrored. Colours
change in strength but hardly in hue. A drawing in one colour may become its negative. One batch
goes through in a few tensor operations: image by image, views would cost as much as the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from twinlens.training.builtin.towers import PIXEL_MEAN, PIXEL_STD


def make_views(pixels: Tensor, photos: Tensor, monochrome: Tensor, size: int) -> Tensor:
    """Return one view (n, 3, size, size), normalised, of each uint8 image (n, h, w, 3).

    `photos` and `monochrome` (n,) say which images are photographs and which have one colour.
    """
    x = _warp(pixels, photos, size)
    x = _recolour(x, photos, monochrome)
    x = _cover(x).clamp(0.0, 1.0)
    x = (x - PIXEL_MEAN) / PIXEL_STD
    return x.contiguous(memory_format=torch.channels_last)


def _warp(pixels: Tensor, photos: Tensor, size: int) -> Tensor:
    """Turn, scale, stretch and shift, filling with white."""
    n = len(pixels)
    scale = torch.where(photos, _uniform(0.65, 1.1, n), _uniform(0.85, 1.25, n))
    angle, stretch = _uniform(-0.2, 0.2, n), _uniform(-0.1, 0.1, n).exp()
    mirror = torch.where(photos & (torch.rand(n) < 0.5), -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = mirror * scale * stretch * angle.cos()
    theta[:, 0, 1] = -scale * stretch * angle.sin()
    theta[:, 1, 0] = mirror * scale / stretch * angle.sin()
    theta[:, 1, 1] = scale / stretch * angle.cos()
    theta[:, :, 2] = _uniform(-0.15, 0.15, n, 2)
    negative = 1.0 - pixels.permute(0, 3, 1, 2).float() / 255.0
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    return 1.0 - F.grid_sample(negative, grid, padding_mode="zeros", align_corners=False)


def _recolour(x: Tensor, photos: Tensor, monochrome: Tensor) -> Tensor:
    """Change brightness and contrast; sometimes drop the colour, or take the negative."""
    n = len(x)
    x = x * _uniform(0.85, 1.1, n, 3, 1, 1)
    mean = x.mean((1, 2, 3), keepdim=True)
    contrast = torch.where(photos, _uniform(0.7, 1.3, n), _uniform(0.85, 1.15, n))
    x = mean + (x - mean) * contrast[:, None, None, None]
    grey = _some(torch.ones(n, dtype=torch.bool), 0.1)
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    return torch.where(_some(monochrome, 0.1), 1.0 - x, x)


def _cover(x: Tensor) -> Tensor:
    """Hide a square of a quarter of the side, in a quarter of the images."""
    n, size = len(x), x.shape[-1]
    side = size // 4
    corner = torch.randint(0, size - side, (n, 2))
    at = torch.arange(size)
    rows = (at >= corner[:, :1]) & (at < corner[:, :1] + side)
    columns = (at >= corner[:, 1:]) & (at < corner[:, 1:] + side)
    hidden = _some(rows[:, :, None] & columns[:, None, :], 0.25)
    return torch.where(hidden[:, None], torch.rand(n, 3, 1, 1), x)


def _some(mask: Tensor, chance: float) -> Tensor:
    """Return the mask with each row kept by the given chance; a flat one becomes (n, 1, 1, 1)."""
    kept = torch.rand(len(mask)) < chance
    if mask.ndim == 1:
        return (mask & kept)[:, None, None, None]
    return mask & kept.view(-1, *[1] * (mask.ndim - 1))


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    return torch.empty(*shape).uniform_(low, high)
