"""Augmentation that keeps every caption true: colours, sides and letters keep their meaning.

Shapes are rotated, scaled, shifted, stretched and bent a little; photographs are mirrored, and so
are subjects that designers draw facing either way; flags drawn as discs become rectangles. Drawings
vary as designers do: strokes, softness, shading, saturation, background; two drawings of one
concept may be mixed. Hues hardly change. A drawing in one colour may become its negative. One batch
takes a few tensor operations: image by image, views would cost as much as the encoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.builtin.towers import PIXEL_MEAN, PIXEL_STD

_DISC = 0.9  # radius of a disc in half sides, without its soft rim
_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@dataclass(frozen=True)
class Kinds:
    """What may be done to each image, as booleans (n,)."""

    photos: Tensor  # photographs: strokes and background stay unchanged
    monochrome: Tensor  # drawings in one colour: the negative means the same
    mirrored: Tensor  # the mirror image means the same
    discs: Tensor  # flags drawn as a disc, which others draw as a rectangle

    def pick(self, rows: Tensor) -> Kinds:
        """Return the kinds of some images."""
        kinds = (self.photos, self.monochrome, self.mirrored, self.discs)
        return Kinds(*(values[rows] for values in kinds))


def make_views(pixels: Tensor, kinds: Kinds, size: int, partners: Tensor | None = None) -> Tensor:
    """Return one view (n, 3, size, size), normalised, of each uint8 image (n, h, w, 3).

    `partners` (n,) names for each image another one of the same meaning, or itself.
    """
    x = pixels.permute(0, 3, 1, 2).float() / 255.0
    x = _unroll(x, kinds.discs)
    if partners is not None:
        x = _mix_drawings(x, partners)
    x = _warp(x, kinds, size)
    x = _redraw(x, kinds.photos)
    x = _recolour(x, kinds.photos, kinds.monochrome)
    x = _cover(x, kinds.photos).clamp(0.0, 1.0)
    x = (x - PIXEL_MEAN) / PIXEL_STD
    return x.contiguous(memory_format=torch.channels_last)


def _unroll(x: Tensor, discs: Tensor) -> Tensor:
    """Stretch most discs to rectangles about as wide as the picture, as in other designs."""
    rows = torch.nonzero(discs & (torch.rand(len(x)) < 0.7))[:, 0]
    if not len(rows):
        return x
    wide = _uniform(0.8, 1.0, len(rows), 1, 1)
    tall = wide * _uniform(0.5, 0.9, len(rows), 1, 1)
    centres = (torch.arange(x.shape[-1]) + 0.5) * 2.0 / x.shape[-1] - 1.0
    across, down = centres[None, None] / wide, centres[None, :, None] / tall
    across, down = torch.broadcast_tensors(across, down)
    round_x = across * (1.0 - down**2 / 2.0).clamp(min=0.0).sqrt()
    round_y = down * (1.0 - across**2 / 2.0).clamp(min=0.0).sqrt()
    grid = _DISC * torch.stack((round_x, round_y), -1)
    flat = F.grid_sample(x[rows], grid, padding_mode="border", align_corners=False)
    inside = (across.abs() <= 1.0) & (down.abs() <= 1.0)
    return x.index_copy(0, rows, torch.where(inside[:, None], flat, 1.0))


def _mix_drawings(x: Tensor, partners: Tensor) -> Tensor:
    """Mix a fifth of the images with their partners, by a share that varies over the picture."""
    rows = torch.nonzero((torch.rand(len(x)) < 0.2) & (partners != torch.arange(len(x))))[:, 0]
    share = _smooth_noise(len(rows), 1, x.shape[-1]).mul(2.0).sigmoid()
    mixed = x[rows].lerp(x[partners[rows]], share)
    return x.index_copy(0, rows, mixed)


def _warp(x: Tensor, kinds: Kinds, size: int) -> Tensor:
    """Rotate, scale, stretch, shift and bend, and mirror where allowed, filling with white."""
    n, photos = len(x), kinds.photos
    scale = torch.where(photos, _uniform(0.6, 1.1, n), _uniform(0.8, 1.3, n))
    angle, stretch = _uniform(-0.25, 0.25, n), _uniform(-0.16, 0.16, n).exp()
    mirror = torch.where(kinds.mirrored & (torch.rand(n) < 0.5), -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = mirror * scale * stretch * angle.cos()
    theta[:, 0, 1] = -scale * stretch * angle.sin()
    theta[:, 1, 0] = mirror * scale / stretch * angle.sin()
    theta[:, 1, 1] = scale / stretch * angle.cos()
    theta[:, :, 2] = _uniform(-0.15, 0.15, n, 2)
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    bent = _uniform(0.0, 0.05, n, 1, 1, 1) * _smooth_noise(n, 2, size).permute(0, 2, 3, 1)
    return 1.0 - F.grid_sample(1.0 - x, grid + bent, padding_mode="zeros", align_corners=False)


def _redraw(x: Tensor, photos: Tensor) -> Tensor:
    """Thicken or thin dark strokes, leave only outlines, soften or sharpen: some drawings each."""
    fate = torch.where(photos, 1.0, torch.rand(len(x)))
    for low, high, change in (
        (0.00, 0.08, lambda part: -F.max_pool2d(-part, 3, 1, 1)),
        (0.08, 0.12, lambda part: F.max_pool2d(part, 3, 1, 1)),
        (0.12, 0.18, _outline),
        (0.18, 0.40, _soften),
    ):
        rows = torch.nonzero((fate >= low) & (fate < high))[:, 0]
        if len(rows):
            x = x.index_copy(0, rows, change(x[rows]))
    return x


def _outline(x: Tensor) -> Tensor:
    """Return dark edges on white."""
    edges = F.max_pool2d(x, 3, 1, 1) + F.max_pool2d(-x, 3, 1, 1)
    return 1.0 - (2.0 * edges.amax(1, keepdim=True)).clamp(max=1.0).expand_as(x)


def _soften(x: Tensor) -> Tensor:
    """Return images softer or sharper by a random amount."""
    soft = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return x.lerp(soft, _uniform(-1.0, 1.0, len(x), 1, 1, 1)).clamp(0.0, 1.0)


def _recolour(x: Tensor, photos: Tensor, monochrome: Tensor) -> Tensor:
    """Change background, shading, saturation, contrast; remove the colour; invert."""
    n = len(x)
    x = torch.where(_paper(x, photos), _uniform(0.55, 1.0, n, 3, 1, 1), x)
    x = x.clamp(1e-3, 1.0) ** _uniform(-0.45, 0.45, n, 1, 1, 1).exp()
    x = torch.matmul(_colour_matrices(n), x.flatten(2)).view_as(x)
    x = x * _uniform(0.85, 1.1, n, 3, 1, 1)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * _uniform(0.7, 1.3, n, 1, 1, 1)
    grey = _some(torch.ones(n, dtype=torch.bool), 0.1)
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    return torch.where(_some(monochrome, 0.12), 1.0 - x, x)


def _paper(x: Tensor, photos: Tensor) -> Tensor:
    """Return where a seventh of the drawings are white (n, 1, s, s)."""
    white = x.amin(1, keepdim=True) > 0.97
    return white & _some(~photos, 0.15)


def _colour_matrices(n: int) -> Tensor:
    """Return matrices (n, 3, 3) that change saturation, and hue by ten degrees at most."""
    to_yiq = torch.tensor(_TO_YIQ)
    turn, strength = math.radians(10.0) * _uniform(-1.0, 1.0, n), _uniform(0.5, 1.5, n)
    inner = torch.zeros(n, 3, 3)
    inner[:, 0, 0] = 1.0
    inner[:, 1, 1] = inner[:, 2, 2] = strength * turn.cos()
    inner[:, 1, 2], inner[:, 2, 1] = -strength * turn.sin(), strength * turn.sin()
    matrices: Tensor = torch.linalg.inv(to_yiq) @ inner @ to_yiq
    return matrices


def _cover(x: Tensor, photos: Tensor) -> Tensor:
    """Hide a square of a quarter of the side, in a quarter of drawings and half of photographs."""
    n, size = len(x), x.shape[-1]
    side = size // 4
    corner = torch.randint(0, size - side, (n, 2))
    at = torch.arange(size)
    rows = (at >= corner[:, :1]) & (at < corner[:, :1] + side)
    columns = (at >= corner[:, 1:]) & (at < corner[:, 1:] + side)
    kept = torch.rand(n) < torch.where(photos, 0.5, 0.25)
    hidden = rows[:, :, None] & columns[:, None, :] & kept[:, None, None]
    return torch.where(hidden[:, None], torch.rand(n, 3, 1, 1), x)


def _smooth_noise(n: int, channels: int, size: int) -> Tensor:
    """Return noise (n, channels, size, size) of mean 0 that varies slowly over a picture."""
    return F.interpolate(torch.randn(n, channels, 4, 4), (size, size), mode="bilinear")


def _some(mask: Tensor, chance: float) -> Tensor:
    """Return the mask (n,) with each row kept with the given probability, as (n, 1, 1, 1)."""
    return (mask & (torch.rand(len(mask)) < chance))[:, None, None, None]


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    return torch.empty(*shape).uniform_(low, high)
