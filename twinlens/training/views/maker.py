"""From stored uint8 images to normalised views, a group at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.training.views.blur import blur
from twinlens.training.views.colours import apply_colours, draw_colours
from twinlens.training.views.crops import Crops, draw_boxes, uniform
from twinlens.training.views.cutting import cut

CACHED = 2**19  # numbers at a time on a CPU: few enough to stay cached, enough to share each call

FELT = 0.25  # pixels: a blur by less moves no grey level of 255 by half a step


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of a method for images of one size."""

    groups: Mapping[str, Crops]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    step: int = 8  # the sides of small views are multiples of it

    def __call__(self, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return views (n, count, 3, s, s) by group, from uint8 images (n, S, S, 3).

        All draws come from `generator`, on the CPU, so that a seed means the same on any device.
        """
        return {name: self._group(images, crops, generator) for name, crops in self.groups.items()}

    def _group(self, images: Tensor, crops: Crops, generator: torch.Generator) -> Tensor:
        side = crops.side(self.image_size, self.step)
        mean, std = (
            torch.tensor(row, device=images.device)[:, None, None] for row in (self.mean, self.std)
        )
        # Channels last in memory: as convolutions like it.
        shape = len(images), crops.count, side, side, 3
        views = torch.empty(shape, device=images.device).permute(0, 1, 4, 2, 3)
        for turn in range(crops.count):
            plan = draw_plan(generator, len(images), crops, images.shape[1], side, turn)
            for part in parts(len(images), side, images.device):
                view = make_view(images[part], plan.part(part), side)
                views[part, turn] = view.sub_(mean).div_(std)
        return views


@dataclass(frozen=True)
class ViewPlan:
    """What was drawn for one view of each of n images; on the CPU."""

    boxes: Tensor  # (n, 4): left, top, width, height
    flip: Tensor  # (n,) bool
    matrix: Tensor  # (n, 3, 3): colours
    contrast: Tensor  # (n,)
    sigma: Tensor  # (n,): of the blur, in pixels of the view; 0 = none
    solarized: Tensor  # (n,) bool

    def part(self, where: slice) -> ViewPlan:
        """Return what was drawn for some of the images."""
        return ViewPlan(**{name: rows[where] for name, rows in vars(self).items()})


def draw_plan(
    generator: torch.Generator, n: int, crops: Crops, full: int, side: int, turn: int
) -> ViewPlan:
    """Draw view number `turn` of n images of side `full`: a few numbers an image."""
    boxes = draw_boxes(generator, n, crops, full)
    flip = uniform(generator, 0, 1, n) < crops.flip
    matrix, contrast = draw_colours(generator, n, crops)
    blurred = uniform(generator, 0, 1, n) < crops.blur[turn % len(crops.blur)]
    scale = side / 224  # the usual 0.1 to 2 pixels are meant for a side of 224
    sigma = uniform(generator, crops.blur_min * scale, crops.blur_max * scale, n) * blurred
    solarized = uniform(generator, 0, 1, n) < crops.solarize[turn % len(crops.solarize)]
    return ViewPlan(boxes, flip, matrix, contrast, sigma, solarized)


def make_view(images: Tensor, plan: ViewPlan, side: int) -> Tensor:
    """Return a view of each image: uint8 (n, S, S, 3) to planes (n, 3, side, side) of 0..1."""
    device = images.device
    view = cut(images, plan.boxes, plan.flip, side)
    blurred = (plan.sigma >= FELT).nonzero()[:, 0]
    if len(blurred):
        view[blurred] = blur(view[blurred], plan.sigma[blurred])
    matrix, contrast = plan.matrix.to(device), plan.contrast.to(device)
    view = apply_colours(view.flatten(2), matrix, contrast).view_as(view)
    if plan.solarized.any():
        solarized = plan.solarized.to(device)[:, None, None, None]
        view = torch.where(solarized & (view >= 0.5), 1 - view, view)
    return view


def parts(n: int, side: int, device: torch.device) -> list[slice]:
    """Return how a batch is cut: whole on an accelerator, in parts that stay cached on a CPU."""
    size = n if device.type != "cpu" else max(1, CACHED // (3 * side * side))
    return [slice(start, start + size) for start in range(0, n, size)]
