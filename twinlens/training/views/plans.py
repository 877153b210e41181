"""The draws for the views of a batch: a few numbers per image, on the CPU, from a seed alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from twinlens.training.views.colours import Colours, draw_colours
from twinlens.training.views.crops import Crops, draw_boxes, uniform
from twinlens.training.views.draws import Draws

FELT = 0.25  # pixels: a smaller blur moves no level of 255 by half a step


@dataclass(frozen=True)
class ViewPlan:
    """The draws for one view of each of n images; on the CPU."""

    boxes: Tensor  # (n, 4): left, top, width, height
    flip: Tensor  # (n,) bool
    colours: Colours
    sigma: Tensor  # (n,): of the blur, in pixels of the view; 0 = none
    solarized: Tensor  # (n,) bool

    def part(self, where: slice) -> ViewPlan:
        """Return the draws of some of the images."""
        colours = self.colours.part(where)
        rest = {name: rows[where] for name, rows in vars(self).items() if name != "colours"}
        return ViewPlan(colours=colours, **rest)


def draw_plan(generator: Draws, crops: Crops, sizes: Tensor, side: int, turn: int) -> ViewPlan:
    """Draw view number `turn` of pictures of `sizes` (n, 2): a few numbers per image."""
    n = len(sizes)
    boxes = draw_boxes(generator, crops, sizes)
    flip = uniform(generator, 0, 1, n) < crops.flip
    colours = draw_colours(generator, n, crops)
    blurred = uniform(generator, 0, 1, n) < crops.blur[turn % len(crops.blur)]
    scale = side / 224  # the usual 0.1 to 2 pixels are meant for a side of 224
    sigma = uniform(generator, crops.blur_min * scale, crops.blur_max * scale, n) * blurred
    solarized = uniform(generator, 0, 1, n) < crops.solarize[turn % len(crops.solarize)]
    return ViewPlan(boxes, flip, colours, sigma, solarized)
