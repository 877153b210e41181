"""From stored uint8 images to normalised views, a group at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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
        planes = images.permute(0, 3, 1, 2).float().div_(255)  # (n, 3, S, S)
        return {name: self._group(planes, crops, generator) for name, crops in self.groups.items()}

    def _group(self, planes: Tensor, crops: Crops, generator: torch.Generator) -> Tensor:
        side = crops.side(self.image_size)
        views = [
            make_view(planes, crops, side, turn, generator).sub_(self._row(self.mean, planes))
            for turn in range(crops.count)
        ]
        return torch.stack(views, dim=1).div_(self._row(self.std, planes))

    def _row(self, values: tuple[float, float, float], like: Tensor) -> Tensor:
        return torch.tensor(values, device=like.device)[:, None, None]


def make_view(
    planes: Tensor, crops: Crops, side: int, turn: int, generator: torch.Generator
) -> Tensor:
    """Return view number `turn` of each image: planes (n, 3, S, S) to (n, 3, side, side), 0..1."""
    n, device = len(planes), planes.device
    rows, columns = _geometry(n, planes.shape[-1], crops, side, turn, generator)
    matrix, contrast = draw_colours(generator, n, crops)
    rows, columns = rows.to(device), columns.to(device)
    view = rows[:, None] @ planes @ columns.mT[:, None]  # (n, 3, side, side)
    view = apply_colours(view.flatten(2), matrix.to(device), contrast.to(device))
    chance = crops.solarize[turn % len(crops.solarize)]
    if chance > 0:
        solarized = (uniform(generator, 0, 1, n) < chance).to(device)[:, None, None]
        view = torch.where(solarized & (view >= 0.5), 1 - view, view)
    return view.view(n, 3, side, side)


def _geometry(
    n: int, full: int, crops: Crops, side: int, turn: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return row and column matrices (n, side, full): crop, resize, flip and blur in one."""
    left, top, width, height = draw_boxes(generator, n, crops, full).unbind(1)
    flip = uniform(generator, 0, 1, n) < crops.flip
    columns = resampling(left, width, full, side, flip)
    rows = resampling(top, height, full, side, torch.zeros_like(flip))
    chance = crops.blur[turn % len(crops.blur)]
    if chance > 0:
        blurred = uniform(generator, 0, 1, n) < chance
        scale = side / 224  # the usual 0.1 to 2 pixels are meant for a side of 224
        sigma = uniform(generator, crops.blur_min * scale, crops.blur_max * scale, n) * blurred
        blur = blurring(sigma, side)
        rows, columns = blur @ rows, blur @ columns
    return rows, columns
