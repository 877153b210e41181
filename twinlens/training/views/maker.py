"""From stored uint8 images to normalised views, a group at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import device as Device

from twinlens.training.views.colours import apply_colours, draw_colours
from twinlens.training.views.crops import Crops, blurring, draw_boxes, resampling, uniform


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of a method for images of one size."""

    groups: Mapping[str, Crops]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return views (n, count, 3, s, s) by group, from uint8 images (n, S, S, 3).

        All draws come from `generator`, on the CPU, so that a seed means the same on any device.
        """
        pixels = images.float().div_(255)
        return {name: self._group(pixels, crops, generator) for name, crops in self.groups.items()}

    def _group(self, pixels: Tensor, crops: Crops, generator: torch.Generator) -> Tensor:
        side = crops.side(self.image_size)
        mean, std = (torch.tensor(row, device=pixels.device) for row in (self.mean, self.std))
        views = pixels.new_empty(len(pixels), crops.count, side, side, 3)
        for turn in range(crops.count):
            view = make_view(pixels, crops, side, turn, generator)  # (n, side, side, 3)
            torch.sub(view, mean, out=views[:, turn])
        return views.div_(std).permute(
            0, 1, 4, 2, 3
        )  # channels last in memory: as convolutions like it


def make_view(
    pixels: Tensor, crops: Crops, side: int, turn: int, generator: torch.Generator
) -> Tensor:
    """Return view number `turn` of each image: (n, S, S, 3) to (n, side, side, 3), 0..1."""
    n, device = len(pixels), pixels.device
    rows, columns = _geometry(n, pixels.shape[1], crops, side, turn, generator, device)
    matrix, contrast = draw_colours(generator, n, crops)
    view = resample(pixels, rows, columns)
    view = apply_colours(view.flatten(1, 2), matrix.to(device), contrast.to(device))
    chance = crops.solarize[turn % len(crops.solarize)]
    if chance > 0:
        solarized = (uniform(generator, 0, 1, n) < chance).to(device)[:, None, None]
        view = torch.where(solarized & (view >= 0.5), 1 - view, view)
    return view.view(n, side, side, 3)


def resample(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows @ pixels @ columns^T for each channel: (n, S, S, 3) to (n, s, s, 3).

    Channels stay last, so that each of the two products is one plain batched one.
    """
    n, full, side = len(pixels), pixels.shape[1], rows.shape[1]
    wide = (columns @ pixels.transpose(1, 2).reshape(n, full, full * 3)).view(n, side, full, 3)
    tall = rows @ wide.transpose(1, 2).reshape(n, full, side * 3)
    return tall.view(n, side, side, 3)


def _geometry(
    n: int, full: int, crops: Crops, side: int, turn: int, draws: torch.Generator, device: Device
) -> tuple[Tensor, Tensor]:
    """Return row and column matrices (n, side, full): crop, resize, flip and blur in one.

    Drawn on the CPU, a few numbers an image; the matrices are made where they are used.
    """
    left, top, width, height = draw_boxes(draws, n, crops, full).to(device).unbind(1)
    flip = (uniform(draws, 0, 1, n) < crops.flip).to(device)
    columns = resampling(left, width, full, side, flip)
    rows = resampling(top, height, full, side, torch.zeros_like(flip))
    chance = crops.blur[turn % len(crops.blur)]
    if chance > 0:
        blurred = uniform(draws, 0, 1, n) < chance
        scale = side / 224  # the usual 0.1 to 2 pixels are meant for a side of 224
        sigma = uniform(draws, crops.blur_min * scale, crops.blur_max * scale, n) * blurred
        blur = blurring(sigma.to(device), side)
        rows, columns = blur @ rows, blur @ columns
    return rows, columns
