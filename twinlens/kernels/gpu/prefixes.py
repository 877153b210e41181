"""The passes over several prefixes at once on a GPU: allocation, launches, the library's products.

What must stay true: as in `engine`; the pieces of G of all segments together are as large as one
piece of a single loss.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from twinlens.kernels import contrastive
from twinlens.kernels.contrastive import LOG2_E, PerSide, blocks
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.gpu.launch import (
    Launch,
    can_use_tma,
    divide_up,
    label_arguments,
    mask_constants,
    power_above,
    provide_descriptor_memory,
)
from twinlens.kernels.gpu.linear import compute_gain, compute_lse, units
from twinlens.kernels.gpu.prefix_tiles import prefix_gradient_kernel, prefix_sweep_kernel
from twinlens.kernels.gpu.products import CHUNK_BYTES, choose_piece, multiply
from twinlens.kernels.gpu.tile_table import Tile
from twinlens.kernels.prefixes import Prefixes, PrefixGradient, PrefixValue

GROUP = 16


class TritonPrefixes:
    """All prefixes in one pass, exact in bfloat16 and float32."""

    def __init__(self, *, chunk_bytes: int | None = None) -> None:
        self.chunk_bytes = chunk_bytes

    def prefix_sums(self, prefixes: Prefixes, shares: list[PerSide]) -> list[PerSide]:
        """Return each prefix's log-sum-exps."""
        shift = contrastive.find_shift(prefixes.whole.factor)
        rows, columns = _sweep(prefixes, shift)
        engine, found = TritonEngine(), []
        for k, problem in enumerate(prefixes.problems):
            n, m = len(problem.x), len(problem.y)
            by_rows, flags = compute_lse(rows[k], shift, shares[k].rows, m)
            engine.redo_underflowed(problem, by_rows, flags, swap=False)
            by_columns, flags = compute_lse(columns[k], shift, shares[k].columns, n)
            if problem.symmetric:
                engine.redo_underflowed(problem, by_columns, flags, swap=True)
            found.append(PerSide(by_rows, by_columns))
        return found

    def prefix_gradient(
        self, prefixes: Prefixes, lse: list[PerSide], shares: list[PerSide], pulls: list[PerSide]
    ) -> PrefixGradient:
        """Return the softmax's gradient from its log-sum-exps."""
        shift = contrastive.find_shift(prefixes.whole.factor)
        gains, logs, flags = [], [], []
        for problem, sums, share in zip(prefixes.problems, lse, shares, strict=True):
            log, gain, flag = compute_gain(problem, sums, shift, share)
            logs.append(log)
            gains.append(gain)
            flags.append(flag)
        vectors = [_stack(each) for each in (gains, pulls, logs, shares)]
        work = _Pass(prefixes, shift, vectors, torch.stack(flags).amax(), sigmoid=False)
        return work.run(self.chunk_bytes)[0]

    def prefix_sigmoid(self, prefixes: Prefixes, bias: Tensor, pull: PerSide) -> PrefixValue:
        """Return the sigmoid's value and gradient in one pass."""
        pulls = _stack([pull] * len(prefixes.widths))
        flag = torch.zeros((), dtype=torch.int32, device=bias.device)
        vectors = [pulls] * 4
        work = _Pass(prefixes, bias * LOG2_E, vectors, flag, sigmoid=True)
        gradient, sums = work.run(self.chunk_bytes)
        in_bits, total = sums.double().sum((1, 2))
        return PrefixValue((in_bits * math.log(2)).float(), total.float(), gradient)


def _sweep(prefixes: Prefixes, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return lines of sums over rows (K, S, n) and over columns (K, P, m)."""
    problem = prefixes.whole
    launch, tile, constants = _choose(prefixes, "prefix_sweep")
    n, m, count = len(problem.x), len(problem.y), len(prefixes.widths)
    room = launch.processors * tile.blocks
    programs = min(divide_up(n, tile.BM), room)
    splits = max(1, min(room // programs, divide_up(m, tile.BN)))
    rows = problem.x.inverse_norm.new_empty(count, splits, n)
    columns = (
        rows.new_empty(count, programs, m) if problem.symmetric else rows.new_zeros(count, 1, m)
    )
    prefix_sweep_kernel[(programs, splits)](
        prefixes.x, prefixes.y, _place_ends(prefixes.widths, prefixes.x.device),
        prefixes.norms.rows, prefixes.norms.columns, problem.factor, shift,
        rows, columns, rows, rows, *label_arguments(problem), count, n, m, prefixes.x.shape[1],
        prefixes.x.stride(0), prefixes.y.stride(0), problem.pairs.offset,
        problem.pairs.own_key_columns, LINES=power_above(count),
        COLUMNS=problem.symmetric, **constants,
    )  # fmt: skip
    return rows, columns


@dataclass(frozen=True)
class _Pass:
    """One pass that writes G of all segments, piece by piece, and multiplies it."""

    prefixes: Prefixes
    shift: Tensor
    vectors: list[PerSide]  # gain, pull, log, share: (K, n) and (K, m)
    underflowed: Tensor
    sigmoid: bool

    def run(self, chunk_bytes: int | None) -> tuple[PrefixGradient, Tensor]:
        """Return the gradient, and the sigmoid's sums (2, P, BM)."""
        prefixes, problem = self.prefixes, self.prefixes.whole
        x, count = prefixes.x, len(prefixes.widths)
        n, m = len(x), len(prefixes.y)
        size = (chunk_bytes or CHUNK_BYTES[problem.memory]) // count
        height, width = choose_piece(n, m, size, x.element_size())
        g = x.new_empty(count, height, width)
        unit_x, unit_y = units(problem.x, problem.y)
        by_x = prefixes.norms.rows.new_empty(n, x.shape[1])
        by_y = by_x.new_empty(m if problem.needs_y else 0, x.shape[1])
        slopes = PerSide(
            *(torch.zeros_like(t) for t in (prefixes.norms.rows, prefixes.norms.columns))
        )
        filler = _Filler(self, g)
        for rows in blocks(n, height):
            for columns in blocks(m, width):
                piece = filler.fill(rows, columns, slopes)
                for k, part in enumerate(prefixes.segments):
                    multiply(
                        by_x[rows, part], piece[k], unit_y[columns, part], add=columns.start > 0
                    )
                    if problem.needs_y:
                        multiply(
                            by_y[columns, part], piece[k].T, unit_x[rows, part], add=rows.start > 0
                        )
        return PrefixGradient(by_x, by_y, slopes), filler.lines


class _Filler:
    """Fills one buffer with one piece after another of all segments' G."""

    def __init__(self, work: _Pass, g: Tensor) -> None:
        self.work, self.g = work, g
        prefixes = work.prefixes
        self.launch, self.tile, self.constants = _choose(prefixes, "prefix_gradient")
        self.weights = prefixes.norms.rows.new_tensor(prefixes.weights)
        if not work.sigmoid:
            self.weights = self.weights.fill_(1.0)  # they are in the shares
        lines = self._programs(g.shape[1], g.shape[2])
        self.lines = prefixes.norms.rows.new_zeros(2, lines, self.tile.BM)

    def fill(self, rows: slice, columns: slice, slopes: PerSide) -> list[Tensor]:
        """Return each segment's G of these rows and columns, and add to the slopes."""
        work, tile = self.work, self.tile
        prefixes, problem = work.prefixes, work.prefixes.whole
        high, wide, count = rows.stop - rows.start, columns.stop - columns.start, len(self.g)
        across, bands = divide_up(wide, tile.BN), divide_up(high, tile.BM)
        by_rows = self.lines.new_empty(count, across, high)
        by_columns = self.lines.new_empty(count, bands, wide)
        pointers = [t for side in work.vectors for t in (side.rows, side.columns)]
        factor = problem.factor * LOG2_E if work.sigmoid else problem.factor
        prefix_gradient_kernel[(self._programs(high, wide),)](
            prefixes.x, prefixes.y, _place_ends(prefixes.widths, prefixes.x.device),
            prefixes.norms.rows, prefixes.norms.columns, factor, work.shift, self.g,
            by_rows, by_columns,
            *self.lines, *pointers, work.underflowed, *label_arguments(problem), self.weights,
            rows.start, rows.stop, columns.start, columns.stop, count,
            len(prefixes.x), len(prefixes.y), prefixes.x.shape[1], prefixes.x.stride(0),
            prefixes.y.stride(0), self.g.stride(1), self.g.stride(0),
            problem.pairs.offset, problem.pairs.own_key_columns,
            GROUP=GROUP, SIGMOID=work.sigmoid, **self.constants,
        )  # fmt: skip
        slopes.rows[:, rows] += by_rows.sum(1)
        slopes.columns[:, columns] += by_columns.sum(1)
        return [g[:high, :wide] for g in self.g]

    def _programs(self, height: int, width: int) -> int:
        tiles = divide_up(height, self.tile.BM) * divide_up(width, self.tile.BN)
        return int(min(tiles, self.launch.processors * self.tile.blocks))


def _choose(prefixes: Prefixes, kernel: Any) -> tuple[Launch, Tile, dict[str, Any]]:
    """Return the device's settings, the tile, and the constants of a pass."""
    x, y, narrowest = prefixes.x, prefixes.y, min(s.stop - s.start for s in prefixes.segments)
    launch = Launch.on(x.device)
    tile = launch.tile(kernel, x, y)
    tile = replace(tile, BK=max(16, min(tile.BK, power_above(narrowest))))
    even = all(width % tile.BK == 0 for width in prefixes.widths)
    tma = even and can_use_tma(launch, x, y)
    if tma:
        provide_descriptor_memory()
    constants = {
        "EVEN_K": even, "TMA": tma, **mask_constants(prefixes.whole), **launch.options(tile, x),
    }  # fmt: skip
    return launch, tile, constants


@functools.cache
def _place_ends(widths: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the widths on the device; copied once, so that later steps may be captured."""
    return torch.tensor(widths, dtype=torch.int32, device=device)


def _stack(sides: list[PerSide]) -> PerSide:
    return PerSide(torch.stack([s.rows for s in sides]), torch.stack([s.columns for s in sides]))
