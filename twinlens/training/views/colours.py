"""Colour: brightness, contrast and saturation as one 3x3 matrix and one offset per image, then hue.

Contrast adds the image's mean luminance to the matrix product. Hue is shifted in HSV per pixel, as
in the usual per-image transform; grey comes last. The usual transform clips after each step and
draws their order; here the order is fixed and values are clipped twice. The distributions agree
closely.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.training.views.crops import Crops, uniform
from twinlens.training.views.draws import Draws

LUMINANCE = torch.tensor([0.299, 0.587, 0.114])
CACHED = 2**16  # pixels per hue pass on a CPU, which runs over them thirty times


@dataclass(frozen=True)
class Colours:
    """The draws for the colours of n images; on the CPU."""

    matrix: Tensor  # (n, 3, 3)
    contrast: Tensor  # (n,)
    turn: Tensor  # (n,): hue shift; 1 is a full circle, 0 none
    grey: Tensor  # (n,) bool

    def part(self, where: slice) -> Colours:
        """Return the draws of some of the images."""
        return Colours(**{name: rows[where] for name, rows in vars(self).items()})


def draw_colours(generator: Draws, n: int, crops: Crops) -> Colours:
    """Draw the colours of n images."""
    jittered = uniform(generator, 0, 1, n) < crops.jitter
    brightness = _factor(generator, crops.brightness, jittered)
    contrast = _factor(generator, crops.contrast, jittered)
    saturation = _factor(generator, crops.saturation, jittered)
    turn = uniform(generator, -crops.hue, crops.hue, n) * jittered
    grey = uniform(generator, 0, 1, n) < crops.grey
    matrix = saturate(saturation) * (brightness * contrast)[:, None, None]
    return Colours(matrix, contrast, turn, grey)


def saturate(amount: Tensor) -> Tensor:
    """Return matrices (n, 3, 3) that blend a pixel with its luminance; 0 is grey, 1 identity."""
    grey = LUMINANCE.expand(3, 3)
    share = amount[:, None, None]
    return share * torch.eye(3) + (1 - share) * grey


def apply_colours(planes: Tensor, colours: Colours) -> Tensor:
    """Return planes (n, 3, p) of 0..1 with the drawn colours, clipped to 0..1."""
    device = planes.device
    view = apply_matrix(planes, colours.matrix.to(device), colours.contrast.to(device))
    turned = colours.turn.nonzero()[:, 0]
    at_once = max(1, CACHED // planes.shape[2]) if device.type == "cpu" else max(1, len(turned))
    for part in turned.split(at_once):
        some = part.to(device)
        view[some] = turn_hue(view[some], colours.turn[part].to(device))
    grey = colours.grey.nonzero()[:, 0]
    if len(grey):
        some = grey.to(device)
        view[some] = torch.einsum("c,ncp->np", LUMINANCE.to(view), view[some])[:, None]
    return view


def apply_matrix(
    planes: Tensor, matrix: Tensor, contrast: Tensor, luminance: Tensor = LUMINANCE
) -> Tensor:
    """Return matrix @ planes (n, 3, p), with contrast around the mean luminance of the product.

    `luminance` is on the device of the planes, to spare a copy.
    """
    mean = (matrix @ planes.mean(dim=2)[..., None])[..., 0]  # (n, 3)
    grey = mean @ luminance.to(planes)
    offset = ((1 - contrast) / contrast.clamp(min=1e-3) * grey)[:, None, None]
    view: Tensor = torch.baddbmm(offset, matrix, planes).clamp_(0, 1)
    return view


def turn_hue(planes: Tensor, turn: Tensor) -> Tensor:
    """Return planes (n, 3, p) of 0..1 with hues shifted by `turn` (n,) of the colour circle.

    The largest and the smallest of a pixel's three values are unchanged; each channel lies between
    them according to the distance of the new hue from it, in sixths of the circle.
    """
    red, green, blue = planes.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    span = high - low
    hue = torch.where(
        red == high,
        green - blue,
        torch.where(
            green == high,
            (blue - red).add_(span, alpha=2),
            (red - green).add_(span, alpha=4),
        ),
    )
    hue = hue.div_(span.clamp(min=1e-8)).add_(6 * turn[:, None])
    hue = hue.sub_((hue / 6).floor_(), alpha=6)  # 0 to 6: red at 0, green at 2, blue at 4
    turned = torch.empty_like(planes)
    share = (hue - 3).abs_().sub_(1).clamp_(0, 1)
    torch.addcmul(low, span, share, out=turned[:, 0])
    for channel, place in ((1, 2), (2, 4)):
        share = (hue - place).abs_().sub_(2).clamp_(-1, 0)
        torch.addcmul(low, span, share, value=-1, out=turned[:, channel])
    return turned


def _factor(generator: Draws, strength: float, jittered: Tensor) -> Tensor:
    """Return factors around 1 (n,), exactly 1 without jitter."""
    drawn = uniform(generator, max(0.0, 1 - strength), 1 + strength, len(jittered))
    return torch.where(jittered, drawn, torch.ones(()))
