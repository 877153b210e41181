"""Tiles of the heavy kernels, timed one by one and printed as entries of the table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

from gpu.losses import compute_clip, make_problem, step
from gpu.stage import Sizes, measure
from twinlens.kernels.gpu import tile_table
from twinlens.kernels.gpu.engine import TritonEngine


def tune(sizes: Sizes) -> None:
    """Print candidate tiles of the two heavy kernels, fastest first, as entries of the table."""
    for kernel in ("sweep", "sweep_tma", "gradient"):
        found = []
        for rows, columns, warps, stages in _candidates():
            tile = tile_table.Tile(rows, columns, 64, warps, stages)
            with mock.patch.dict(tile_table._TABLE, {(kernel, 90, 2): tile}):
                seconds = _try(kernel, sizes)
            found.append((seconds, tile))
        for seconds, tile in sorted(found, key=lambda pair: pair[0]):
            print(f'    ("{kernel}", 90, 2): {tile},  # {seconds * 1e3:.2f} ms')


def _candidates() -> Iterator[tuple[int, int, int, int]]:
    for rows, columns in ((128, 128), (128, 256), (256, 128), (64, 256), (64, 128)):
        for warps in (4, 8):
            for stages in (2, 3, 4):
                yield rows, columns, warps, stages


def _try(kernel: str, sizes: Sizes) -> float:
    problem, shares = make_problem(sizes, sizes.batch)
    few = replace(sizes, rounds=5)
    try:
        if kernel == "gradient":
            return measure(lambda: step(compute_clip, problem.x.raw, problem.y.raw), few)
        engine = TritonEngine(use_tma=kernel == "sweep_tma")
        return measure(lambda: engine.softmax_lse(problem, shares), few)
    except Exception as error:  # a tile that does not fit is an answer, not a failure
        print(f"    # {kernel}: {str(error)[:80]}")
        return math.inf
