"""How an inference of a given size is computed: one of a few plans, by a static table.

Few embeddings are bound by latency, many by the matrix units, very many classes by memory, and no
kernel is best at all three. `plan_table` holds the fastest measured plan by size. What must stay
true: nothing is chosen at run time, so equal inputs take equal paths and give equal bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import triton
from torch import Tensor

from twinlens.kernels.gpu import plan_table
from twinlens.kernels.gpu.launch import Launch, are_aligned, can_use_tma
from twinlens.kernels.gpu.plan_table import CLASSES, PLAN_TABLE, ROWS, PlanName
from twinlens.kernels.gpu.tile_table import KernelName, Tile

MANY_QUERIES = 32  # beyond this the top k uses wider tiles


@dataclass(frozen=True)
class Plan:
    """How probabilities over classes are computed.

    `norms`: summed beside the product, or measured before it. `library`: the product is the
    library's. `partial`: each split of the classes keeps its maximum and sum, which saves one read
    of the logits. `chained`: the second launch may start before the first has ended.
    """

    tile: KernelName = "softmax"
    norms: Literal["beside", "before"] = "beside"
    library: bool = False
    tma: bool = False
    partial: bool = False
    chained: bool = False

    @property
    def needs_hopper(self) -> bool:
        """Tell whether this needs features that older GPUs, and the interpreter, lack."""
        return self.tma or self.chained


PLANS: dict[PlanName, Plan] = {
    "small": Plan(),
    "chained": Plan(chained=True),
    "small partial": Plan(partial=True),
    "middle": Plan("softmax_middle", "before"),
    "middle partial": Plan("softmax_middle", "before", partial=True),
    "large": Plan("softmax_large", "before"),
    "tma": Plan("softmax_tma", "before", tma=True),
    "tma partial": Plan("softmax_partial", "before", tma=True, partial=True),
    "library": Plan(norms="before", library=True),
}


@dataclass(frozen=True)
class TopkPlan:
    """How the top k is found: tile and reads of phase 1; how much phase 2 scans at once."""

    tile: Tile
    tma: bool = False
    scan: int = 8192
    step: int = 64
    warps: int = 8


def plan_similarity(launch: Launch, x: Tensor, y: Tensor) -> Plan:
    """Return the plan for these embeddings on this device."""
    if not are_aligned(x, y):
        return PLANS["small"]
    name = PLAN_TABLE[x.element_size()][_nearest(ROWS, len(x))][_nearest(CLASSES, len(y))]
    if launch.arch < 90:
        name = _WITHOUT_HOPPER.get(name, name)
    return PLANS[name]


def split_classes(launch: Launch, tile: Tile, n: int, m: int) -> tuple[int, int]:
    """Return the grid: bands of rows, and splits of the classes, enough to fill the processors."""
    bands, tiles = triton.cdiv(n, tile.BM), triton.cdiv(m, tile.BN)
    return bands, min(tiles, triton.cdiv(tile.blocks * launch.processors, bands))


def plan_topk(launch: Launch, x: Tensor, y: Tensor) -> TopkPlan:
    """Return the plan of the top k for these embeddings on this device."""
    if len(x) > MANY_QUERIES:
        return TopkPlan(launch.tile("topk_many", x, y))
    if plan_table.TOPK_BY_TMA and can_use_tma(launch, x, y):
        return TopkPlan(launch.tile("topk_tma", x, y), tma=True)
    return TopkPlan(launch.tile("topk", x, y))


_WITHOUT_HOPPER: dict[PlanName, PlanName] = {
    "chained": "small",
    "tma": "large",
    "tma partial": "middle partial",
}


def _nearest(sizes: tuple[int, ...], size: int) -> int:
    """Return the index of the nearest size on a logarithmic scale."""
    distances = [abs(math.log(known / size)) for known in sizes]
    return distances.index(min(distances))
