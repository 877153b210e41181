"""CIE Lab colour (sRGB by IEC 61966-2-1), the bins of its two colour axes, and grey views.

What must stay true: grey is a view's lightness, so that none of its colours are left in it, and
each bin contains some sRGB colour.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

# sRGB to XYZ divided by the white point D65: a row for each channel of XYZ.
TO_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
LEVELS = 52  # levels per channel from which the bins are found


@dataclass(frozen=True)
class Greying:
    """The views `global` become grey.

    Their colours are kept as `colours` (n, cells, 2): the mean a and b of squares of `cell` pixels.
    """

    cell: int


def convert_to_lab(pixels: Tensor) -> Tensor:
    """Return L, a and b (n, 3, ...) of sRGB pixels (n, 3, ...) of 0..1."""
    linear = torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(TO_XYZ, dtype=pixels.dtype, device=pixels.device)
    xyz = torch.einsum("xc,nc...->nx...", matrix, linear)
    edge = 6 / 29
    bent = torch.where(xyz > edge**3, xyz.clamp(min=1e-8) ** (1 / 3), xyz / (3 * edge**2) + 4 / 29)
    x, y, z = bent.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def convert_from_lab(lab: Tensor) -> Tensor:
    """Return sRGB pixels (n, 3, ...) of 0..1, clipped, of L, a and b (n, 3, ...)."""
    light, a, b = lab.unbind(1)
    y = (light + 16) / 116
    bent = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    edge = 6 / 29
    xyz = torch.where(bent > edge, bent**3, 3 * edge**2 * (bent - 4 / 29))
    matrix = torch.linalg.inv(torch.tensor(TO_XYZ, dtype=torch.float64)).to(lab)
    linear = torch.einsum("cx,nx...->nc...", matrix, xyz).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def take_colours(pixels: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Return grey pixels (n, 3, s, s), and the colours (n, cells, 2), of pixels (n, 3, s, s)."""
    lab = convert_to_lab(pixels)
    cells = max(1, pixels.shape[-1] // cell)
    colours = adaptive_avg_pool2d(lab[:, 1:], cells).flatten(2).mT
    lab[:, 1:] = 0
    return convert_from_lab(lab), colours


@functools.cache
def find_bins(side: float) -> NDArray[np.float64]:
    """Return the centres (bins, 2) of the squares of a and b that contain some colour."""
    levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    lab = convert_to_lab(torch.cartesian_prod(levels, levels, levels))
    found: NDArray[np.float64] = np.unique((lab[:, 1:] / side).round().numpy(), axis=0) * side
    return found
