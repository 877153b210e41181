"""How an inference of a given size is computed: a static choice, by measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from twinlens.kernels.gpu.launch import Launch
from twinlens.kernels.gpu.tile_table import Tile


@dataclass(frozen=True)
class Plan:
    """How probabilities over classes are computed.

    `product`: norms summed beside the product ("inline") or before ("measured"), or the product
    left to the library. `partial`: maxima and sums of the splits spare one reading of the logits.
    `waves`: programs for each processor.
    """

    tile: Tile
    product: Literal["inline", "measured", "library"] = "inline"
    tma: bool = False
    partial: bool = False
    waves: int = 8
    precision: str | None = None


@dataclass(frozen=True)
class TopkPlan:
    """How the top k is found."""

    tile: Tile
    tma: bool = False
    waves: int = 2
    scan: int = 8192
    select_step: int = 64
    select_warps: int = 8


def plan_similarity(launch: Launch, x: Tensor, y: Tensor) -> Plan:
    """Return the plan for these embeddings on this device."""
    return Plan(launch.tile("softmax", x, y))


def plan_topk(launch: Launch, x: Tensor, y: Tensor) -> TopkPlan:
    """Return the plan for these embeddings on this device."""
    return TopkPlan(launch.tile("topk", x, y))
