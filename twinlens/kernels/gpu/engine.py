"""The engine on GPUs: checks, allocates, chooses tiles, launches; the kernels only compute.

What must stay true: no launch makes the host wait for a number (except labels, which torch must
count), no memory grows with n * m beyond one piece of G unless terms are kept, and equal inputs
give equal bits (there are no atomics).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace

import torch
from torch import Tensor

from twinlens.kernels import contrastive
from twinlens.kernels.contrastive import LOG2_E, Emit, PerSide, Problem, Side, SigmoidPass, Sums
from twinlens.kernels.gpu.backward import Backward, Weights, unboost
from twinlens.kernels.gpu.launch import (
    Again,
    Launch,
    are_aligned,
    can_use_tma,
    divide_up,
    label_arguments,
    mask_constants,
    provide_descriptor_memory,
    side_arguments,
    size_arguments,
)
from twinlens.kernels.gpu.linear import (
    compute_gain,
    compute_lse,
    compute_own_cosines,
    project,
)
from twinlens.kernels.gpu.products import CHUNK_BYTES
from twinlens.kernels.gpu.sweep import sweep_kernel, underflowed_lse_kernel
from twinlens.kernels.gpu.tile_table import KernelName

HALF_BOOST = 4096.0  # factor that lifts a float16 G above the subnormal numbers


class TritonEngine:
    """Exact, in linear memory, in bfloat16, float16 and float32.

    `chunk_bytes` bounds the piece of G, by default as `Problem.memory` says; 0 selects the register
    kernels for embeddings up to 256 wide.
    """

    def __init__(self, *, chunk_bytes: int | None = None, use_tma: bool | None = None) -> None:
        self.chunk_bytes, self.use_tma = chunk_bytes, use_tma

    def softmax_sums(self, problem: Problem, shares: PerSide, *, keep: bool = False) -> Sums:
        """Return the log-sum-exps; see `contrastive.Engine`."""
        shift = contrastive.find_shift(problem.factor)
        kept = allocate_kept(problem) if keep else None
        rows, columns = self.sweep(problem, shift, sigmoid=False, kept=kept)
        if problem.row_group is not None:
            columns = problem.row_group.sum(columns.sum(0))[None]
        by_rows, flags = compute_lse(rows, shift, shares.rows, len(problem.y))
        self.redo_underflowed(problem, by_rows, flags, swap=False)
        by_columns, flags = compute_lse(columns, shift, shares.columns, len(problem.x))
        if problem.symmetric:
            self.redo_underflowed(problem, by_columns, flags, swap=True)
            if problem.row_group is not None:
                # All processes have the same sums, so all read them on the host and decide alike.
                at = flags.nonzero()[:, 0]
                if len(at):
                    by_columns[at] = problem.row_group.logaddexp2(by_columns[at])
        return Sums(PerSide(by_rows, by_columns), kept)

    def softmax_gradient(
        self, problem: Problem, sums: Sums, shares: PerSide, pull: PerSide, emit: Emit
    ) -> Tensor:
        """Emit G y, return G^T x; see `contrastive.Engine`."""
        shift = contrastive.find_shift(problem.factor)
        logs, gain, underflowed = compute_gain(problem, sums.lse, shift, shares)
        boost = torch.ones_like(problem.factor)
        if problem.x.raw.dtype == torch.float16:
            boost = HALF_BOOST / torch.maximum(shares.rows.max(), shares.columns.max())
        weights = Weights(gain, pull, logs, shares)
        own = None if sums.kept is None else self.own_cosines(problem) * problem.factor
        backward = Backward(
            problem, problem.factor, shift, weights, underflowed, boost, False,
            self.takes_tma(problem), sums.kept, own,
        )  # fmt: skip
        return self._run(backward, emit).by_y

    def sigmoid_total(self, problem: Problem, bias: Tensor, pull: PerSide) -> Tensor:
        """Return the sum of softplus; see `contrastive.Engine`."""
        in_bits = replace(problem, factor=problem.factor * LOG2_E)
        rows, _ = self.sweep(in_bits, bias * LOG2_E, sigmoid=True, pull=pull)
        return (rows.double().sum() * math.log(2)).float()

    def sigmoid_pass(
        self, problem: Problem, bias: Tensor, pull: PerSide, emit: Emit
    ) -> SigmoidPass:
        """Emit G y, return the value, G^T x and sum(G); see `contrastive.Engine`."""
        unused = problem.x.inverse_norm
        nothing = PerSide(unused, unused)
        weights = Weights(nothing, pull, nothing, nothing)
        flag = torch.zeros((), dtype=torch.int32, device=unused.device)
        halves = problem.x.raw.dtype == torch.float16
        boost = unused.new_full((), HALF_BOOST if halves else 1.0)
        tma = self.takes_tma(problem)
        factor, shift = problem.factor * LOG2_E, bias * LOG2_E
        return self._run(Backward(problem, factor, shift, weights, flag, boost, True, tma), emit)

    def own_cosines(self, problem: Problem) -> Tensor:
        """Return each row's cosine with its own column; see `contrastive.Engine`."""
        return compute_own_cosines(problem)

    def project(
        self, side: Side, rows: slice, unit_gradient: Tensor, factor: Tensor, out: Tensor
    ) -> Tensor:
        """Write the raw rows' gradient; see `contrastive.Engine`."""
        return project(side, rows, unit_gradient, factor, out)

    def _run(self, backward: Backward, emit: Emit) -> SigmoidPass:
        problem = backward.problem
        if self.chunk_bytes == 0 and problem.x.raw.shape[1] <= 256:
            return backward.by_registers(emit)

        def emit_unboosted(rows: slice, dx: Tensor) -> None:
            emit(rows, unboost(dx, backward.boost, problem))

        size = self.chunk_bytes or CHUNK_BYTES[problem.memory]
        dy, lines = backward.by_pieces(emit_unboosted, size)
        in_bits, total = lines.double().sum((1, 2))
        value = (in_bits * math.log(2)).float()
        return SigmoidPass(value, unboost(dy, backward.boost, problem), total.float())

    def takes_tma(self, problem: Problem) -> bool:
        """Tell whether tiles are read by the tensor memory accelerator."""
        if self.use_tma is not None:
            return self.use_tma
        return can_use_tma(Launch.on(problem.x.raw.device), problem.x.raw, problem.y.raw)

    def sweep(
        self, problem: Problem, shift: Tensor, *, sigmoid: bool, kept: Tensor | None = None,
        pull: PerSide | None = None, key: Hashable | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return lines of sums over rows (S, n) and columns (P, m), the latter on request."""
        x, y = problem.x, problem.y
        launch = Launch.on(x.raw.device)
        tma = self.takes_tma(problem) and (kept is None or are_aligned(kept, kept))
        if tma:
            provide_descriptor_memory()
        by_tma: KernelName = "sweep_tma" if kept is None else "kept_tma"
        tile = launch.tile(by_tma if tma else "sweep", x.raw, y.raw)
        bands, room = divide_up(len(x), tile.BM), launch.processors * tile.blocks
        programs = min(bands, room)
        splits = max(1, min(room // programs, divide_up(len(y), tile.BN)))
        columns = problem.symmetric and not sigmoid
        row_sums = x.inverse_norm.new_empty(splits, len(x))
        column_sums = x.inverse_norm.new_empty(programs, len(y) if columns else 1)
        terms = row_sums if kept is None else kept
        weights = PerSide(row_sums, row_sums) if pull is None else pull
        again = Again(sweep_kernel, key and (key, tile))
        again[(programs, splits)](
            *side_arguments(x, y), problem.factor, shift, row_sums, column_sums, terms,
            weights.rows, weights.columns, *label_arguments(problem), *size_arguments(x, y),
            terms.stride(0), problem.pairs.offset, problem.pairs.own_key_columns,
            EVEN_K=x.raw.shape[1] % tile.BK == 0, TMA=tma, PARTS=tile.parts, SIGMOID=sigmoid,
            COLUMNS=columns, KEEP=kept is not None,
            **mask_constants(problem), **launch.options(tile, x.raw),
        )  # fmt: skip
        if not columns:
            column_sums = x.inverse_norm.new_zeros(1, len(y))
        return row_sums, column_sums

    def redo_underflowed(
        self, problem: Problem, lse: Tensor, underflowed: Tensor, *, swap: bool
    ) -> None:
        """On the device, overwrite the lse that may have lost terms, without a synchronisation."""
        x, y = (problem.y, problem.x) if swap else (problem.x, problem.y)
        launch = Launch.on(x.raw.device)
        tile = launch.tile("underflowed", x.raw, y.raw)
        underflowed_lse_kernel[(divide_up(len(x), tile.BM),)](
            *side_arguments(x, y), problem.factor, underflowed, lse, *label_arguments(problem),
            len(problem.x), len(problem.y), x.raw.shape[1], x.raw.stride(0), y.raw.stride(0),
            problem.pairs.offset, problem.pairs.own_key_columns,
            EVEN_K=x.raw.shape[1] % tile.BK == 0, SWAP=swap,
            **mask_constants(problem), **launch.options(tile, x.raw),
        )  # fmt: skip


def allocate_kept(problem: Problem) -> Tensor:
    """Return a buffer for the terms; bfloat16 for 16-bit embeddings: float16 lacks its range."""
    x = problem.x
    halves = x.raw.element_size() == 2
    dtype = torch.bfloat16 if halves else x.inverse_norm.dtype
    return x.raw.new_empty(len(x), len(problem.y), dtype=dtype)
