"""The engine on GPUs: checks, allocates, chooses tiles, launches; the kernels only compute.

What must stay true: no launch waits for the host to look at a number (labels aside, which torch
must count), no memory grows with n * m beyond the one chunk of G, and equal inputs give equal bits
(nothing is atomic).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from twinlens.kernels import contrastive
from twinlens.kernels.contrastive import Emit, PerSide, Problem, Side, blocks
from twinlens.kernels.gpu.gradient import gradient_chunk_kernel, gradient_rows_kernel
from twinlens.kernels.gpu.launch import Launch, can_use_tma, provide_descriptor_memory
from twinlens.kernels.gpu.sweep import sweep_kernel, underflowed_lse_kernel
from twinlens.kernels.gpu.tile_table import Tile

CHUNK_BYTES = 64 << 20  # of G; larger moves fewer bytes, smaller saves memory
HALF_BOOST = 4096.0  # lifts a float16 G above the subnormal numbers


class TritonEngine:
    """Exact and memory-flat in bfloat16, float16 and float32.

    `chunk_bytes` bounds the chunk of G; 0 takes the register kernels for embeddings up to 256 wide.
    """

    def __init__(self, *, chunk_bytes: int = CHUNK_BYTES, use_tma: bool | None = None) -> None:
        self.chunk_bytes, self.use_tma = chunk_bytes, use_tma

    def softmax_lse(self, problem: Problem, shares: PerSide) -> PerSide:
        """Return the log-sum-exps; see `contrastive.Engine`."""
        shift = contrastive.find_shift(problem.factor)
        rows, columns = self._sweep(problem, shift, sigmoid=False)
        if problem.row_group is not None:
            columns = problem.row_group.sum(columns)
        lse = PerSide(*(s.double().log2() - shift for s in (rows, columns)))
        self._redo_underflowed(problem, shift, lse.rows, shares.rows, swap=False)
        if problem.symmetric:
            underflowed = contrastive.has_underflowed(
                lse.columns + shift, shares.columns, len(problem.x)
            )
            self._redo_underflowed(problem, shift, lse.columns, shares.columns, swap=True)
            if problem.row_group is not None:
                # All processes see the same sums, so all ask the host here and all agree.
                at = underflowed.nonzero()[:, 0]
                if len(at):
                    lse.columns[at] = problem.row_group.logaddexp2(lse.columns[at])
        return lse

    def softmax_gradient(
        self, problem: Problem, lse: PerSide, shares: PerSide, pull: PerSide, emit: Emit
    ) -> Tensor:
        """Emit G y, return G^T x; see `contrastive.Engine`."""
        shift = contrastive.find_shift(problem.factor)
        logs = PerSide(lse.rows + shift, lse.columns + shift)
        gain = PerSide(
            contrastive.find_gain(logs.rows, shares.rows),
            contrastive.find_gain(logs.columns, shares.columns),
        )
        underflowed = (
            contrastive.has_underflowed(logs.rows, shares.rows, len(problem.y)).any()
            | contrastive.has_underflowed(logs.columns, shares.columns, len(problem.x)).any()
        )
        peak = torch.maximum(shares.rows.max(), shares.columns.max())
        weights = _Weights(gain, pull, PerSide(logs.rows.float(), logs.columns.float()), shares)
        dy, _ = self._backward(
            problem, shift, weights, underflowed.int(), peak, emit, sigmoid=False
        )
        return dy

    def sigmoid_total(self, problem: Problem, bias: Tensor) -> Tensor:
        """Return the sum of softplus; see `contrastive.Engine`."""
        rows, _ = self._sweep(problem, bias, sigmoid=True)
        return rows.double().sum().float()

    def sigmoid_gradient(self, problem: Problem, bias: Tensor, emit: Emit) -> tuple[Tensor, Tensor]:
        """Emit G y, return G^T x and sum(G); see `contrastive.Engine`."""
        unused = problem.x.inverse_norm
        nothing = PerSide(unused, unused)
        weights = _Weights(nothing, nothing, nothing, nothing)
        underflowed = torch.zeros((), dtype=torch.int32, device=unused.device)
        return self._backward(
            problem, bias, weights, underflowed, unused.new_ones(()), emit, sigmoid=True
        )

    def _sweep(self, problem: Problem, shift: Tensor, *, sigmoid: bool) -> tuple[Tensor, Tensor]:
        """Return the sums over rows (n,) and over columns (m,), the latter if asked for."""
        x, y = problem.x, problem.y
        launch = Launch.on(x.raw.device)
        tma = can_use_tma(launch, x.raw, y.raw) if self.use_tma is None else self.use_tma
        if tma:
            provide_descriptor_memory()
        tile = launch.tile("sweep_tma" if tma else "sweep", x.raw, y.raw)
        bands = triton.cdiv(len(x), tile.BM)
        programs = min(bands, launch.processors)
        splits = max(1, min(launch.processors // programs, triton.cdiv(len(y), tile.BN)))
        columns = problem.symmetric and not sigmoid
        row_sums = x.inverse_norm.new_empty(splits, len(x))
        column_sums = x.inverse_norm.new_zeros(programs, len(y) if columns else 1)
        sweep_kernel[(programs, splits)](
            *_sides(x, y), problem.factor, shift, row_sums, column_sums,
            *_labels(problem), *_sizes(x, y), problem.pairs.offset, problem.pairs.own_key_columns,
            EVEN_K=x.raw.shape[1] % tile.BK == 0, TMA=tma, SIGMOID=sigmoid, COLUMNS=columns,
            **_masks(problem), **launch.options(tile, x.raw),
        )  # fmt: skip
        if not columns:
            column_sums = x.inverse_norm.new_zeros(1, len(y))
        return row_sums.sum(0), column_sums.sum(0)

    def _redo_underflowed(
        self, problem: Problem, shift: Tensor, lse: Tensor, shares: Tensor, *, swap: bool
    ) -> None:
        """Overwrite, on the device and without asking it, the lse that may have lost terms."""
        x, y = (problem.y, problem.x) if swap else (problem.x, problem.y)
        underflowed = contrastive.has_underflowed(lse + shift, shares, len(y)).int()
        launch = Launch.on(x.raw.device)
        tile = launch.tile("underflowed", x.raw, y.raw)
        underflowed_lse_kernel[(triton.cdiv(len(x), tile.BM),)](
            *_sides(x, y), problem.factor, underflowed, lse, *_labels(problem),
            len(problem.x), len(problem.y), x.raw.shape[1], x.raw.stride(0), y.raw.stride(0),
            problem.pairs.offset, problem.pairs.own_key_columns,
            EVEN_K=x.raw.shape[1] % tile.BK == 0, SWAP=swap,
            **_masks(problem), **launch.options(tile, x.raw),
        )  # fmt: skip

    def _backward(
        self, problem: Problem, shift: Tensor, weights: _Weights, underflowed: Tensor, peak: Tensor,
        emit: Emit, *, sigmoid: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        boost = HALF_BOOST / peak if problem.x.raw.dtype == torch.float16 else torch.ones_like(peak)
        common = _Common(problem, shift, weights, underflowed, boost, sigmoid)
        if self.chunk_bytes == 0 and problem.x.raw.shape[1] <= 256:
            return _gradient_by_registers(common, emit)
        return _gradient_by_chunks(common, emit, self.chunk_bytes or CHUNK_BYTES)


@dataclass(frozen=True)
class _Weights:
    gain: PerSide
    pull: PerSide
    logs: PerSide
    shares: PerSide

    def pointers(self, *, swap: bool) -> list[Tensor]:
        """Return the eight vectors in the kernels' order."""
        pairs = (self.gain, self.pull, self.logs, self.shares)
        sides = [(p.columns, p.rows) if swap else (p.rows, p.columns) for p in pairs]
        return [vector for side in sides for vector in side]


@dataclass(frozen=True)
class _Common:
    problem: Problem
    shift: Tensor
    weights: _Weights
    underflowed: Tensor
    boost: Tensor
    sigmoid: bool


def _gradient_by_chunks(c: _Common, emit: Emit, chunk_bytes: int) -> tuple[Tensor, Tensor]:
    """Write G a square at a time; two matrix products use each square.

    Squares, since each costs reading and writing the gradients of its rows and of its columns: at
    64k x 512 and 64 MB, squares move 8 GB in all, and strips of full rows 43 GB.
    """
    x, y = c.problem.x, c.problem.y
    tile = Launch.on(x.raw.device).tile("gradient", x.raw, y.raw)
    height, width = _chunk_shape(len(x), len(y), chunk_bytes // x.raw.element_size(), tile)
    g = x.raw.new_empty(height, width)
    unit_y = _unit_rows(y)
    dy = x.inverse_norm.new_zeros(len(y) if c.problem.needs_y else 0, x.raw.shape[1])
    total = x.inverse_norm.new_zeros(())
    for rows in blocks(len(x), height):
        dx = x.inverse_norm.new_zeros(rows.stop - rows.start, x.raw.shape[1])
        unit_x = _unit_rows(x, rows)
        for columns in blocks(len(y), width):
            filled = g[: rows.stop - rows.start, : columns.stop - columns.start]
            total += _fill_chunk(c, tile, filled, rows, columns)
            dx += filled @ unit_y[columns]
            if c.problem.needs_y:
                dy[columns] += filled.T @ unit_x
        emit(rows, dx.div_(c.boost))
    return dy.div_(c.boost), total


def _chunk_shape(n: int, m: int, elements: int, tile: Tile) -> tuple[int, int]:
    """Return the height and width of the largest chunk: a square, unless one side is shorter."""
    width = min(m, max(tile.BN, math.isqrt(elements) // tile.BN * tile.BN))
    height = min(n, max(tile.BM, elements // width // tile.BM * tile.BM))
    return height, width


def _fill_chunk(c: _Common, tile: Tile, g: Tensor, rows: slice, columns: slice) -> Tensor:
    """Write G for these rows and columns; return its sum, if that is wanted."""
    x, y = c.problem.x, c.problem.y
    grid = triton.cdiv(len(g), tile.BM) * triton.cdiv(g.shape[1], tile.BN)
    sums = x.inverse_norm.new_zeros(grid if c.sigmoid else 1)
    gradient_chunk_kernel[(grid,)](
        *_sides(x, y), c.problem.factor, c.shift, g, sums,
        *c.weights.pointers(swap=False), c.underflowed, *_labels(c.problem), c.boost,
        rows.start, rows.stop, columns.start, columns.stop, *_sizes(x, y), g.stride(0),
        c.problem.pairs.offset, c.problem.pairs.own_key_columns,
        GROUP=8, EVEN_K=x.raw.shape[1] % tile.BK == 0, SIGMOID=c.sigmoid,
        **_masks(c.problem), **Launch.on(x.raw.device).options(tile, x.raw),
    )  # fmt: skip
    return sums.sum()


def _gradient_by_registers(c: _Common, emit: Emit) -> tuple[Tensor, Tensor]:
    """Compute each side's gradient without ever writing G."""
    dx, total = _rows_gradient(c, swap=False)
    emit(slice(0, len(dx)), dx)
    if not c.problem.needs_y:
        return dx[:0], total
    return _rows_gradient(c, swap=True)[0], total


def _rows_gradient(c: _Common, *, swap: bool) -> tuple[Tensor, Tensor]:
    problem = c.problem
    x, y = (problem.y, problem.x) if swap else (problem.x, problem.y)
    launch = Launch.on(x.raw.device)
    tile = launch.tile("gradient_rows", x.raw, y.raw)
    d = x.raw.shape[1]
    dx, sums = x.inverse_norm.new_empty(len(x), d), x.inverse_norm.new_zeros(len(x))
    gradient_rows_kernel[(triton.cdiv(len(x), tile.BM),)](
        *_sides(x, y), problem.factor, c.shift, dx, sums,
        *c.weights.pointers(swap=swap), c.underflowed, *_labels(problem), c.boost,
        len(problem.x), len(problem.y), d, x.raw.stride(0), y.raw.stride(0), dx.stride(0),
        problem.pairs.offset, problem.pairs.own_key_columns,
        D=max(16, triton.next_power_of_2(d)), EVEN_K=d % tile.BK == 0, SIGMOID=c.sigmoid,
        SWAP=swap, **_masks(problem), **launch.options(tile, x.raw),
    )  # fmt: skip
    return dx.div_(c.boost), sums.sum()


def _sides(x: Side, y: Side) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return x.raw, y.raw, x.inverse_norm, y.inverse_norm


def _sizes(x: Side, y: Side) -> tuple[int, int, int, int, int]:
    return len(x), len(y), x.raw.shape[1], x.raw.stride(0), y.raw.stride(0)


def _labels(problem: Problem) -> tuple[Tensor, Tensor]:
    pairs, unused = problem.pairs, problem.x.inverse_norm
    if pairs.row_labels is None or pairs.column_labels is None:
        return unused, unused
    return pairs.row_labels, pairs.column_labels


def _masks(problem: Problem) -> dict[str, bool]:
    pairs = problem.pairs
    return {
        "LABELS": pairs.row_labels is not None,
        "EXCLUDE_SELF": pairs.exclude_self,
        "OWN_KEYS": pairs.own_key_columns > 0,
    }


def _unit_rows(side: Side, rows: slice = slice(None)) -> Tensor:
    return (side.raw[rows] * side.inverse_norm[rows, None]).to(side.raw.dtype)
