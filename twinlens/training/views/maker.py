"""From stored uint8 images to normalised views, a group at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.training.views.blur import blur
from twinlens.training.views.colours import Colours, apply_colours, draw_colours
from twinlens.training.views.crops import Crops, draw_boxes, uniform
from twinlens.training.views.cutting import cut
from twinlens.training.views.draws import Draws
from twinlens.training.views.pictures import Pictures

CACHED = 2**19  # numbers at a time on a CPU: few enough to stay cached, enough to share each call
HELD = 2**28  # numbers of the canvas at a time on an accelerator, where they are floats once
FELT = 0.25  # pixels: a blur by less moves no grey level of 255 by half a step


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of a method for images of one size."""

    groups: Mapping[str, Crops]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    step: int = 8  # the sides of small views are multiples of it

    def __call__(self, pictures: Pictures, generator: Draws) -> dict[str, Tensor]:
        """Return views (n, count, 3, s, s) by group.

        All draws come from `generator`, on the CPU, so that a seed means the same on any device.
        From `RowDraws` a picture gets the same views in any batch.
        """
        return {
            name: self._group(pictures, crops, generator) for name, crops in self.groups.items()
        }

    def _group(self, pictures: Pictures, crops: Crops, generator: Draws) -> Tensor:
        side = crops.side(self.image_size, self.step)
        canvas = pictures.canvas
        mean, std = (
            torch.tensor(row, device=canvas.device)[:, None, None] for row in (self.mean, self.std)
        )
        # Channels last in memory: as convolutions like it.
        shape = len(pictures), crops.count, side, side, 3
        views = torch.empty(shape, device=canvas.device).permute(0, 1, 4, 2, 3)
        for turn in range(crops.count):
            plan = draw_plan(generator, crops, pictures.sizes, side, turn)
            for part in parts(canvas, side):
                view = make_view(canvas[part], plan.part(part), side)
                views[part, turn] = view.sub_(mean).div_(std)
        return views


@dataclass(frozen=True)
class ViewPlan:
    """What was drawn for one view of each of n images; on the CPU."""

    boxes: Tensor  # (n, 4): left, top, width, height
    flip: Tensor  # (n,) bool
    colours: Colours
    sigma: Tensor  # (n,): of the blur, in pixels of the view; 0 = none
    solarized: Tensor  # (n,) bool

    def part(self, where: slice) -> ViewPlan:
        """Return what was drawn for some of the images."""
        colours = self.colours.part(where)
        rest = {name: rows[where] for name, rows in vars(self).items() if name != "colours"}
        return ViewPlan(colours=colours, **rest)


def draw_plan(generator: Draws, crops: Crops, sizes: Tensor, side: int, turn: int) -> ViewPlan:
    """Draw view number `turn` of pictures of `sizes` (n, 2): a few numbers an image."""
    n = len(sizes)
    boxes = draw_boxes(generator, crops, sizes)
    flip = uniform(generator, 0, 1, n) < crops.flip
    colours = draw_colours(generator, n, crops)
    blurred = uniform(generator, 0, 1, n) < crops.blur[turn % len(crops.blur)]
    scale = side / 224  # the usual 0.1 to 2 pixels are meant for a side of 224
    sigma = uniform(generator, crops.blur_min * scale, crops.blur_max * scale, n) * blurred
    solarized = uniform(generator, 0, 1, n) < crops.solarize[turn % len(crops.solarize)]
    return ViewPlan(boxes, flip, colours, sigma, solarized)


def make_view(canvas: Tensor, plan: ViewPlan, side: int) -> Tensor:
    """Return a view of each picture: bytes (n, H, W, 3) to planes (n, 3, side, side) of 0..1."""
    view = cut(canvas, plan.boxes, plan.flip, side)
    view = apply_colours(view.flatten(2), plan.colours).view_as(view)
    blurred = (plan.sigma >= FELT).nonzero()[:, 0]
    if len(blurred):
        view[blurred] = blur(view[blurred], plan.sigma[blurred])
    if plan.solarized.any():
        solarized = plan.solarized.to(view.device)[:, None, None, None]
        view = torch.where(solarized & (view >= 0.5), 1 - view, view)
    return view


def parts(canvas: Tensor, side: int) -> list[slice]:
    """Return how a batch is cut: into what stays cached on a CPU, or is held on an accelerator."""
    n = len(canvas)
    if canvas.device.type == "cpu":
        size = max(1, CACHED // (3 * side * side))
    else:
        size = max(1, HELD // max(1, canvas[0].numel()))
    return [slice(start, start + size) for start in range(0, n, size)]
