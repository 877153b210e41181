"""What a group of views is (`Crops`), and the random boxes that are cut from images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.training.views.draws import Draws, RowDraws

TRIES = 10  # tries per view before the largest centred box is used


@dataclass(frozen=True)
class Crops:
    """A group of `count` views. A tuple of probabilities gives one to each view, repeating."""

    count: int = 2
    size: int = 0  # pixels; 0 = `size_ratio` of the run's image size
    size_ratio: float = 1.0
    scale_min: float = 0.2  # area of the box, as a share of the image
    scale_max: float = 1.0
    ratio_min: float = 3 / 4
    ratio_max: float = 4 / 3
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: tuple[float, ...] = (0.5,)
    blur_min: float = 0.1  # standard deviation in pixels, for a side of 224; scales with the side
    blur_max: float = 2.0
    solarize: tuple[float, ...] = (0.0,)

    def side(self, image_size: int, step: int = 8) -> int:
        """Return the side of these views in pixels, rounded to a multiple of `step`.

        For an encoder whose patches do not divide 8 pixels, `step` is the side of a patch.
        """
        if self.size or self.size_ratio == 1:
            return self.size or image_size
        return max(step, round(image_size * self.size_ratio / step) * step)


def uniform(draws: Draws, low: float, high: float, *shape: int) -> Tensor:
    """Return uniform draws in [low, high), float32, on the CPU, of `shape`: images first."""
    if isinstance(draws, RowDraws):
        return draws.rand(*shape).mul_(high - low).add_(low)
    return torch.rand(*shape, generator=draws).mul_(high - low).add_(low)


def draw_boxes(generator: Draws, crops: Crops, sizes: Tensor) -> Tensor:
    """Return a box (n, 4), int64, in each image of `sizes` (n, 2): left, top, width, height.

    As in Inception: area and log-ratio are uniform over the whole image, a box that does not fit is
    drawn again, and after ten tries the largest centred box of an allowed ratio is used. Boxes are
    whole pixels, as in the usual transform.
    """
    n, (tall, wide) = len(sizes), sizes.float().unbind(1)
    area = uniform(generator, crops.scale_min, crops.scale_max, n, TRIES) * (tall * wide)[:, None]
    logs = math.log(crops.ratio_min), math.log(crops.ratio_max)
    ratio = uniform(generator, logs[0], logs[1], n, TRIES).exp()
    width = (area * ratio).sqrt().round().clamp(min=1)
    height = (area / ratio).sqrt().round().clamp(min=1)
    fits = (width <= wide[:, None]) & (height <= tall[:, None])
    first, any_fits = fits.int().argmax(dim=1, keepdim=True), fits.any(dim=1)
    fallback = _largest(crops, tall, wide)
    width = width.gather(1, first)[:, 0].where(any_fits, fallback[0])
    height = height.gather(1, first)[:, 0].where(any_fits, fallback[1])
    left = (uniform(generator, 0, 1, n) * (wide - width + 1)).floor()
    top = (uniform(generator, 0, 1, n) * (tall - height + 1)).floor()
    left = left.where(any_fits, ((wide - width) / 2).floor())
    top = top.where(any_fits, ((tall - height) / 2).floor())
    return torch.stack([left, top, width, height], dim=1).long()


def _largest(crops: Crops, tall: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
    """Return width and height of the largest box of an allowed ratio."""
    width = torch.minimum(wide, (tall * crops.ratio_max).round())
    height = torch.minimum(tall, (wide / crops.ratio_min).round())
    return width, height
