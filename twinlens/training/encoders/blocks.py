"""The blocks of a tower: names of their parameters, stochastic depth and layer scale.

What must stay true: scaled branches of open_clip's blocks keep open_clip's names, `ls_1.gamma`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.errors import InputError

BLOCK = re.compile(r"(?:^|\.)(?:blocks|resblocks|stages|layers)\.(\d+)\.")


@dataclass(frozen=True)
class BranchOptions:
    """Stochastic depth and layer scale for the branches of a tower's blocks."""

    drop_path: float = 0.0
    drop_path_even: bool = False
    layer_scale: float = 0.0

    def rates(self, depth: int) -> list[float]:
        """Return the share of images that skip each block: rising from 0, or constant."""
        if self.drop_path_even:
            return [self.drop_path] * depth
        return [self.drop_path * number / max(1, depth - 1) for number in range(depth)]


NO_BRANCHES = BranchOptions()


class ScaledBranch(nn.Module):
    """A branch times an optional learned factor, and zero for a share of the images."""

    def __init__(self, gamma: nn.Parameter | None, drop_prob: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Return x (n, length, width) with its expected value unchanged."""
        x = x if self.gamma is None else x * self.gamma
        if not (self.training and self.drop_prob):
            return x
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.drop_prob
        return x * kept / (1 - self.drop_prob)


def branch_open_clip(name: str, visual: nn.Module, branches: BranchOptions) -> None:
    """Add stochastic depth and layer scale to an open_clip vision transformer; refuse others."""
    if branches == NO_BRANCHES:
        return
    transformer: Any = getattr(visual, "transformer", None)
    blocks = list(getattr(transformer, "resblocks", []))
    if not blocks or not getattr(transformer, "batch_first", False):
        raise InputError(
            f"encoder {name!r} has no branches to drop or scale; drop_path and layer_scale go with"
            " our own vit-*, with timm:NAME and with the vision transformers of open_clip",
            field="drop_path" if branches.drop_path else "layer_scale",
        )
    for block, rate in zip(blocks, branches.rates(len(blocks)), strict=True):
        for place in ("ls_1", "ls_2"):
            gamma = getattr(getattr(block, place), "gamma", None)
            if branches.layer_scale:
                width = block.ln_1.weight.shape[0]
                gamma = nn.Parameter(torch.full((width,), branches.layer_scale))
            setattr(block, place, ScaledBranch(gamma, rate))
