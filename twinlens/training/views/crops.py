"""What a group of views is (`Crops`), and the geometry: random boxes as resampling matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TRIES = 10  # boxes drawn per view before falling back to the largest centred one


@dataclass(frozen=True)
class Crops:
    """A group of `count` views. A tuple of probabilities is read view by view, in turns."""

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

    def side(self, image_size: int) -> int:
        """Return the side of these views in pixels."""
        return self.size or max(8, round(image_size * self.size_ratio / 8) * 8)


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Return uniform draws in [low, high), float32, on the generator's device."""
    return torch.rand(*shape, generator=generator).mul_(high - low).add_(low)


def draw_boxes(generator: torch.Generator, n: int, crops: Crops, side: int) -> Tensor:
    """Return n boxes (n, 4): left, top, width, height in pixels of a square image.

    As in Inception: area and log-ratio uniform, a box that does not fit is drawn again, and after
    ten tries the whole image, cut to the nearest allowed ratio, is taken.
    """
    area = uniform(generator, crops.scale_min, crops.scale_max, n, TRIES) * side * side
    logs = math.log(crops.ratio_min), math.log(crops.ratio_max)
    ratio = uniform(generator, logs[0], logs[1], n, TRIES).exp()
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (width <= side) & (height <= side)
    first = fits.int().argmax(dim=1, keepdim=True)
    any_fits = fits.any(dim=1)
    width = width.gather(1, first)[:, 0].where(any_fits, torch.tensor(float(side)))
    height = height.gather(1, first)[:, 0].where(any_fits, torch.tensor(float(side)))
    left = uniform(generator, 0, 1, n) * (side - width)
    top = uniform(generator, 0, 1, n) * (side - height)
    return torch.stack([left, top, width, height], dim=1)


def resampling(start: Tensor, length: Tensor, side: int, out: int, flip: Tensor) -> Tensor:
    """Return matrices (n, out, side) that resample `length` pixels from `start` to `out` pixels.

    Triangle filter, widened when shrinking (antialiased bilinear); where `flip`, mirrored.
    """
    n = len(start)
    step = (length / out)[:, None]  # source pixels per output pixel
    index = torch.arange(out, device=start.device, dtype=start.dtype).expand(n, out)
    index = torch.where(flip[:, None], out - 1 - index, index)
    centre = start[:, None] + (index + 0.5) * step - 0.5
    pixel = torch.arange(side, device=start.device, dtype=start.dtype)
    distance = (pixel - centre[..., None]).abs_()
    weight = (1 - distance / step.clamp(min=1)[..., None]).clamp_(min=0)
    # The filter sees only pixels inside the box, as a crop before the resize would.
    inside = (pixel > start[:, None] - 1) & (pixel < (start + length)[:, None])
    weight *= inside[:, None, :]
    return weight / weight.sum(dim=-1, keepdim=True).clamp_(min=1e-6)


def blurring(sigma: Tensor, out: int) -> Tensor:
    """Return matrices (n, out, out) that blur by Gaussians of `sigma` pixels; 0 is the identity."""
    index = torch.arange(out, device=sigma.device, dtype=sigma.dtype)
    # Exponentials of the distances alone, then spread: s of them instead of s squared.
    bell = torch.exp(-index.square() / (2 * sigma.clamp(min=1e-3).square())[:, None])
    weight = bell[:, (index[:, None] - index[None, :]).abs().long()]
    return weight / weight.sum(dim=-1, keepdim=True)
