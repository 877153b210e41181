"""The backward on GPUs: pieces of G by a kernel, its two products by the library.

What must stay true: no memory grows with n * m beyond one piece of G, and equal inputs give equal
bits. For narrow embeddings there are kernels that never write G.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.kernels.contrastive import Emit, PerSide, Problem, SigmoidPass, blocks
from twinlens.kernels.gpu.gradient import gradient_chunk_kernel, gradient_kept_kernel
from twinlens.kernels.gpu.gradient_rows import gradient_rows_kernel
from twinlens.kernels.gpu.launch import (
    Again,
    Launch,
    divide_up,
    label_arguments,
    mask_constants,
    power_above,
    provide_descriptor_memory,
    side_arguments,
    size_arguments,
)
from twinlens.kernels.gpu.linear import unit_rows, units
from twinlens.kernels.gpu.products import choose_piece, multiply
from twinlens.kernels.gpu.tile_table import KernelName

GROUP = 16  # bands of tiles whose programs run side by side


@dataclass(frozen=True)
class Weights:
    """What a tile of G needs of each row and column."""

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
class Backward:
    """One problem's gradient: everything that its launches share."""

    problem: Problem
    factor: Tensor  # logit in bits = factor * cosine + shift
    shift: Tensor
    weights: Weights
    underflowed: Tensor  # int32 flag: take the long formula
    boost: Tensor  # factor of the stored G
    sigmoid: bool
    use_tma: bool
    kept: Tensor | None = None
    own: Tensor | None = None  # the positives' logits, besides kept terms
    key: Hashable | None = None  # for `Again`

    def by_pieces(self, emit: Emit, chunk_bytes: int) -> tuple[Tensor, Tensor]:
        """Write G one piece at a time; two matrix products use each piece.

        Emit boosted G y, return boosted G^T x, and the sigmoid's sums (2, P, BM): of its value's
        terms in bits, and of G.
        """
        x, y = self.problem.x, self.problem.y
        height, width = choose_piece(len(x), len(y), chunk_bytes, x.raw.element_size())
        g = x.raw.new_empty(height, width)
        unit_x, unit_y = units(x, y, self.key) if height >= len(x) else (None, unit_rows(y))
        dy = x.inverse_norm.new_empty(len(y) if self.problem.needs_y else 0, x.raw.shape[1])
        filler = _Filler(self, g)
        for rows in blocks(len(x), height):
            dx = x.inverse_norm.new_empty(rows.stop - rows.start, x.raw.shape[1])
            own = unit_rows(x, rows) if unit_x is None else unit_x
            for columns in blocks(len(y), width):
                piece = filler.fill(rows, columns)
                multiply(dx, piece, unit_y[columns], add=columns.start > 0)
                if self.problem.needs_y:
                    multiply(dy[columns], piece.T, own, add=rows.start > 0)
            emit(rows, dx)
        return dy, filler.lines

    def by_registers(self, emit: Emit) -> SigmoidPass:
        """Compute each side's gradient without ever writing G."""
        dx, value, total = self._rows_gradient(swap=False)
        emit(slice(0, len(dx)), dx)
        dy = self._rows_gradient(swap=True)[0] if self.problem.needs_y else dx[:0]
        return SigmoidPass(value, dy, total)

    def _rows_gradient(self, *, swap: bool) -> tuple[Tensor, Tensor, Tensor]:
        problem = self.problem
        x, y = (problem.y, problem.x) if swap else (problem.x, problem.y)
        launch = Launch.on(x.raw.device)
        tile = launch.tile("gradient_rows", x.raw, y.raw)
        d = x.raw.shape[1]
        dx = x.inverse_norm.new_empty(len(x), d)
        values, totals = x.inverse_norm.new_zeros(2, len(x))
        gradient_rows_kernel[(divide_up(len(x), tile.BM),)](
            *side_arguments(x, y), self.factor, self.shift, dx, values, totals,
            *self.weights.pointers(swap=swap), self.underflowed, *label_arguments(problem),
            self.boost, len(problem.x), len(problem.y), d, x.raw.stride(0), y.raw.stride(0),
            dx.stride(0), problem.pairs.offset, problem.pairs.own_key_columns,
            D=max(16, power_above(d)), EVEN_K=d % tile.BK == 0, SIGMOID=self.sigmoid,
            SWAP=swap, **mask_constants(problem), **launch.options(tile, x.raw),
        )  # fmt: skip
        value, total = values.double().sum() * math.log(2), totals.double().sum()
        return unboost(dx, self.boost, problem), value.float(), total.float()


class _Filler:
    """Fills one buffer with piece after piece of G, and keeps the sigmoid's sums."""

    def __init__(self, backward: Backward, g: Tensor) -> None:
        self.backward, self.g = backward, g
        x, y = backward.problem.x, backward.problem.y
        self.launch = Launch.on(x.raw.device)
        self.tma = backward.use_tma
        by_tma: KernelName = "sigmoid_tma" if backward.sigmoid else "gradient_tma"
        self.tile = self.launch.tile(by_tma if self.tma else "gradient", x.raw, y.raw)
        if self.tma:
            provide_descriptor_memory()
        lines = self._programs(g.shape[0], g.shape[1]) if backward.sigmoid else 1
        shape = (2, lines, self.tile.BM)  # a softmax only needs a valid pointer
        self.lines = x.inverse_norm.new_zeros(shape) if backward.sigmoid else g.new_empty(shape)

    def fill(self, rows: slice, columns: slice) -> Tensor:
        """Return G of these rows and columns, in the buffer."""
        piece = self.g[: rows.stop - rows.start, : columns.stop - columns.start]
        if self.backward.kept is not None:
            self._fill_from_kept(piece, rows, columns)
        self._fill_by_product(piece, rows, columns)
        return piece

    def _programs(self, height: int, width: int) -> int:
        tiles = divide_up(height, self.tile.BM) * divide_up(width, self.tile.BN)
        return int(min(tiles, self.launch.processors * self.tile.blocks))

    def _fill_by_product(self, piece: Tensor, rows: slice, columns: slice) -> None:
        c, tile = self.backward, self.tile
        x, y = c.problem.x, c.problem.y
        again = Again(gradient_chunk_kernel, self._find_key(rows, columns))
        again[(self._programs(*piece.shape),)](
            *side_arguments(x, y), c.factor, c.shift, piece, *self.lines,
            *c.weights.pointers(swap=False), c.underflowed, *label_arguments(c.problem), c.boost,
            rows.start, rows.stop, columns.start, columns.stop, *size_arguments(x, y),
            piece.stride(0), c.problem.pairs.offset, c.problem.pairs.own_key_columns,
            GROUP=GROUP, EVEN_K=x.raw.shape[1] % tile.BK == 0, TMA=self.tma, PARTS=tile.parts,
            SIGMOID=c.sigmoid, KEPT=c.kept is not None,
            **mask_constants(c.problem), **self.launch.options(tile, x.raw),
        )  # fmt: skip

    def _find_key(self, rows: slice, columns: slice) -> Hashable | None:
        key = self.backward.key
        return key and (key, self.tile, rows.start, rows.stop, columns.start, columns.stop)

    def _fill_from_kept(self, piece: Tensor, rows: slice, columns: slice) -> None:
        c, kept = self.backward, self.backward.kept
        assert kept is not None
        high, wide = 4, min(1024, power_above(piece.shape[1]))
        grid = (divide_up(piece.shape[1], wide), divide_up(piece.shape[0], high))
        again = Again(gradient_kept_kernel, self._find_key(rows, columns))
        again[grid](
            kept, piece, c.own, c.shift, *c.weights.pointers(swap=False)[:4],
            c.underflowed, c.boost, rows.start, rows.stop, columns.start, columns.stop,
            kept.stride(0), piece.stride(0), c.problem.pairs.offset, BM=high, BN=wide, num_warps=8,
        )  # fmt: skip


def unboost(gradient: Tensor, boost: Tensor, problem: Problem) -> Tensor:
    """Undo the boost of a float16 G, in place."""
    return gradient.div_(boost) if problem.x.raw.dtype == torch.float16 else gradient
