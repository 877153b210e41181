"""Colour: jitter and grey as one 3x3 matrix and one offset per image.

Brightness, contrast, saturation and a hue rotation (in the YIQ plane) all act linearly on a pixel,
so their product is one matrix; contrast adds the image's mean luminance. Each step of the usual
per-image transform clips, here one clip at the end does: the distributions agree closely.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from twinlens.training.views.crops import Crops, uniform

LUMINANCE = torch.tensor([0.299, 0.587, 0.114])
TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)

FROM_YIQ = torch.linalg.inv(TO_YIQ)


def draw_colours(generator: torch.Generator, n: int, crops: Crops) -> tuple[Tensor, Tensor]:
    """Return colour matrices (n, 3, 3) and contrasts (n,).

    A view is matrix @ pixel + (1 - contrast) / contrast * the luminance of the view's mean pixel
    under the same matrix: `apply_colours` does it.
    """
    jittered = uniform(generator, 0, 1, n) < crops.jitter
    brightness = _factor(generator, crops.brightness, jittered)
    contrast = _factor(generator, crops.contrast, jittered)
    saturation = _factor(generator, crops.saturation, jittered)
    turn = uniform(generator, -crops.hue, crops.hue, n) * jittered
    grey = uniform(generator, 0, 1, n) < crops.grey
    saturation = torch.where(grey, torch.zeros(()), saturation)
    matrix = saturate(saturation) @ rotate(turn) * (brightness * contrast)[:, None, None]
    return matrix, contrast


def saturate(amount: Tensor) -> Tensor:
    """Return matrices (n, 3, 3) that blend a pixel with its luminance; 0 is grey, 1 identity."""
    grey = LUMINANCE.expand(3, 3)
    share = amount[:, None, None]
    return share * torch.eye(3) + (1 - share) * grey


def rotate(turn: Tensor) -> Tensor:
    """Return matrices (n, 3, 3) that turn the hue by `turn` (1 is a full circle)."""
    angle = 2 * math.pi * turn
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    one = torch.ones_like(angle)
    rows = [one, zero, zero, zero, cos, -sin, zero, sin, cos]
    plane = torch.stack(rows, dim=1).view(-1, 3, 3)
    turned: Tensor = FROM_YIQ @ plane @ TO_YIQ
    return turned


def apply_colours(planes: Tensor, matrix: Tensor, contrast: Tensor) -> Tensor:
    """Return planes (n, 3, p) of 0..1 under their colour matrices, clipped to 0..1."""
    mean = (matrix @ planes.mean(dim=2)[..., None])[..., 0]  # (n, 3)
    grey = mean @ LUMINANCE.to(planes)
    offset = ((1 - contrast) / contrast.clamp(min=1e-3) * grey)[:, None, None]
    view: Tensor = torch.baddbmm(offset, matrix, planes).clamp_(0, 1)
    return view


def _factor(generator: torch.Generator, strength: float, jittered: Tensor) -> Tensor:
    """Return factors around 1 (n,), exactly 1 where not jittered."""
    drawn = uniform(generator, max(0.0, 1 - strength), 1 + strength, len(jittered))
    return torch.where(jittered, drawn, torch.ones(()))
