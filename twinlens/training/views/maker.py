"""From stored uint8 images to normalised views, one group at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from twinlens.training.devices import is_accelerator
from twinlens.training.views.blur import blur
from twinlens.training.views.colours import apply_colours
from twinlens.training.views.crops import Crops
from twinlens.training.views.cutting import cut
from twinlens.training.views.device_views import HELD
from twinlens.training.views.draws import Draws
from twinlens.training.views.pictures import Pictures
from twinlens.training.views.plans import FELT, ViewPlan, draw_plan

CACHED = 2**19  # numbers per pass on a CPU: few enough for the cache, enough to amortise a call


class Maker(Protocol):
    """Makes views in two steps: draw on the CPU, then apply the draws to the pictures."""

    @property
    def groups(self) -> Mapping[str, Crops]:
        """The groups of views."""
        ...

    def draw(self, sizes: Tensor, generator: Draws) -> dict[str, Any]:
        """Draw the views of pictures of `sizes` (n, 2), by group."""
        ...

    def make(self, pictures: Pictures, drawn: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return views (n, count, 3, s, s) by group."""
        ...


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
        With `RowDraws` a picture gets the same views in any batch.
        """
        return self.make(pictures, self.draw(pictures.sizes, generator))

    def draw(self, sizes: Tensor, generator: Draws) -> dict[str, list[ViewPlan]]:
        """Return the draws for each view, by group."""
        return {
            name: [
                draw_plan(generator, crops, sizes, self.side(crops), turn)
                for turn in range(crops.count)
            ]
            for name, crops in self.groups.items()
        }

    def make(self, pictures: Pictures, drawn: Mapping[str, list[ViewPlan]]) -> dict[str, Tensor]:
        """Return views (n, count, 3, s, s) by group, as drawn."""
        return {
            name: self._group(pictures, self.side(self.groups[name]), plans)
            for name, plans in drawn.items()
        }

    def side(self, crops: Crops) -> int:
        """Return the side of a group's views."""
        return crops.side(self.image_size, self.step)

    def _group(self, pictures: Pictures, side: int, plans: list[ViewPlan]) -> Tensor:
        canvas = pictures.canvas
        mean, std = (
            torch.tensor(row, device=canvas.device)[:, None, None] for row in (self.mean, self.std)
        )
        # Channels-last layout, for convolutions.
        shape = len(pictures), len(plans), side, side, 3
        views = torch.empty(shape, device=canvas.device).permute(0, 1, 4, 2, 3)
        for turn, plan in enumerate(plans):
            for part in parts(canvas, side):
                view = make_view(canvas[part], plan.part(part), side)
                views[part, turn] = view.sub_(mean).div_(std)
        return views


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
    """Return the parts of a batch that each fit a CPU's cache, or an accelerator's memory."""
    n = len(canvas)
    if not is_accelerator(canvas.device):
        size = max(1, CACHED // (3 * side * side))
    else:
        size = max(1, HELD // max(1, canvas[0].numel()))
    return [slice(start, start + size) for start in range(0, n, size)]
