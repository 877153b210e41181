"""Views on an accelerator: one graph of fixed shapes, from numbers drawn on the CPU.

`make_view` processes only the images that a draw affects; here all images pass through each step
and keep their values where nothing was drawn, so that shapes never change, nothing is read back
from the device, and the compiler sees one graph. What must stay true: the views equal those of
`make_view` up to the rounding of its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from twinlens.training.devices import pin, send
from twinlens.training.views.blur import blur
from twinlens.training.views.colours import LUMINANCE, Colours, apply_matrix, turn_hue
from twinlens.training.views.crops import Crops
from twinlens.training.views.cutting import cut_by_matrices
from twinlens.training.views.draws import Draws
from twinlens.training.views.pictures import Pictures
from twinlens.training.views.plans import FELT, ViewPlan

HELD = 2**28  # pixels of the canvas per pass, while they are floats
_BOX, _MATRIX = slice(0, 4), slice(4, 13)
_CONTRAST, _TURN, _SIGMA, _FLIP, _GREY, _SOLARIZED = range(13, 19)

Make = Callable[..., Tensor]


class PlainMaker(Protocol):
    """What draws the views: `ViewMaker`."""

    @property
    def groups(self) -> Mapping[str, Crops]:
        """The groups of views."""
        ...

    @property
    def mean(self) -> tuple[float, float, float]:
        """What is taken from each channel."""
        ...

    @property
    def std(self) -> tuple[float, float, float]:
        """What each channel is divided by."""
        ...

    def side(self, crops: Crops) -> int:
        """Return the side of a group's views."""
        ...

    def draw(self, sizes: Tensor, generator: Draws) -> dict[str, list[ViewPlan]]:
        """Return what is drawn for each view, by group."""
        ...


def pack_plans(plans: Sequence[ViewPlan]) -> Tensor:
    """Return the draws for v views of n images as one tensor (v, n, 19), to send once."""
    return torch.stack([_pack(plan) for plan in plans])


def _pack(plan: ViewPlan) -> Tensor:
    colours = plan.colours
    columns = (
        plan.boxes,
        colours.matrix.flatten(1),
        *(
            row[:, None]
            for row in (
                colours.contrast,
                colours.turn,
                plan.sigma,
                plan.flip,
                colours.grey,
                plan.solarized,
            )
        ),
    )
    return torch.cat([column.float() for column in columns], dim=1)


def _unpack(packed: Tensor) -> ViewPlan:
    colours = Colours(
        matrix=packed[:, _MATRIX].reshape(-1, 3, 3),
        contrast=packed[:, _CONTRAST],
        turn=packed[:, _TURN],
        grey=packed[:, _GREY] > 0,
    )
    return ViewPlan(
        boxes=packed[:, _BOX],
        flip=packed[:, _FLIP] > 0,
        colours=colours,
        sigma=packed[:, _SIGMA],
        solarized=packed[:, _SOLARIZED] > 0,
    )


@dataclass(frozen=True)
class DeviceGroup:
    """A group of views on a device."""

    crops: Crops
    side: int
    numbers: Tensor  # (3, 3) on the device: mean, standard deviation, luminance

    @property
    def widest(self) -> float:
        """The largest standard deviation of a blur, in pixels of the view; 0 without blur."""
        return self.crops.blur_max * self.side / 224 if any(self.crops.blur) else 0.0


class DeviceViewMaker:
    """Makes the views of a method on one device; `compiled` makes each group one compiled graph."""

    def __init__(self, plain: PlainMaker, device: torch.device, *, compiled: bool) -> None:
        self.groups = plain.groups
        self._plain, self._device = plain, device
        self._make: Make = make_views
        if compiled:
            self._make = torch.compile(make_views, fullgraph=True, dynamic=False)
        numbers = torch.stack([torch.tensor(plain.mean), torch.tensor(plain.std), LUMINANCE])
        self._groups = {
            name: DeviceGroup(crops, plain.side(crops), numbers.to(device))
            for name, crops in plain.groups.items()
        }

    def draw(self, sizes: Tensor, generator: Draws) -> dict[str, Tensor]:
        """Return the draws, packed as (v, n, 19) by group, in memory that can be sent."""
        drawn = self._plain.draw(sizes, generator)
        return {name: pin(pack_plans(plans), self._device) for name, plans in drawn.items()}

    def make(self, pictures: Pictures, drawn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views (n, count, 3, s, s) by group; the canvas is on the device."""
        return {
            name: self._group(pictures.canvas, send(packed, self._device), self._groups[name])
            for name, packed in drawn.items()
        }

    def _group(self, canvas: Tensor, packed: Tensor, group: DeviceGroup) -> Tensor:
        held = max(1, HELD // max(1, math.prod(canvas.shape[1:])))
        made = [
            self._make(canvas[start : start + held], packed[:, start : start + held], group)
            for start in range(0, len(canvas), held)
        ]
        return made[0] if len(made) == 1 else torch.cat(made)


def make_views(canvas: Tensor, packed: Tensor, group: DeviceGroup) -> Tensor:
    """Return normalised views (n, v, 3, s, s), in the channels-last layout for convolutions."""
    mean, std = (row[:, None, None] for row in group.numbers[:2])
    views = [(_make_one(canvas, plan, group) - mean) / std for plan in packed.unbind(0)]
    return torch.stack([view.permute(0, 2, 3, 1) for view in views], 1).permute(0, 1, 4, 2, 3)


def _make_one(canvas: Tensor, packed: Tensor, group: DeviceGroup) -> Tensor:
    plan, crops, side = _unpack(packed), group.crops, group.side
    view = cut_by_matrices(canvas, plan.boxes, plan.flip, side)
    view = _colour(view.flatten(2), plan.colours, group).view_as(view)
    if group.widest >= FELT:
        felt = plan.sigma >= FELT
        blurred = blur(view, plan.sigma, group.widest)
        view = torch.where(_by_image(felt), blurred, view)
    if any(crops.solarize):
        view = torch.where(_by_image(plan.solarized) & (view >= 0.5), 1 - view, view)
    return view


def _colour(planes: Tensor, colours: Colours, group: DeviceGroup) -> Tensor:
    """Return planes (n, 3, p) with their colours; images without a hue shift are shifted by 0."""
    luminance = group.numbers[2]
    view = apply_matrix(planes, colours.matrix, colours.contrast, luminance)
    if group.crops.hue and group.crops.jitter:
        turned = turn_hue(view, colours.turn)
        view = torch.where((colours.turn != 0)[:, None, None], turned, view)
    if group.crops.grey:
        grey = torch.einsum("c,ncp->np", luminance, view)[:, None]
        view = torch.where(colours.grey[:, None, None], grey, view)
    return view


def _by_image(flags: Tensor) -> Tensor:
    return flags[:, None, None, None]
