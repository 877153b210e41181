"""Whole steps of the losses whose positives lie on the diagonal, in as few launches as possible.

The algorithm is that of `contrastive`, the sweeps are the engine's. All work linear in the rows is
fused: five launches forward and six backward for a softmax, seven and none for a sigmoid, where
torch operators take seventy. What must stay true: the host never waits for the device, so that a
step may be captured in a CUDA graph; equal inputs give equal bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from twinlens.kernels import contrastive
from twinlens.kernels.contrastive import Memory, PerSide, Problem, Side
from twinlens.kernels.gpu.backward import Backward, Weights
from twinlens.kernels.gpu.ends import (
    gain_kernel,
    measure_kernel,
    projections_kernel,
    sigmoid_value_kernel,
    slope_kernel,
    value_kernel,
)
from twinlens.kernels.gpu.engine import HALF_BOOST, TritonEngine, allocate_kept
from twinlens.kernels.gpu.launch import (
    Again,
    Launch,
    divide_up,
    label_arguments,
    mask_constants,
    number_step,
    side_arguments,
)
from twinlens.kernels.gpu.linear import WIDEST, choose_rows
from twinlens.kernels.gpu.products import CHUNK_BYTES
from twinlens.kernels.pairs import Pairs

LINE = 32  # the length of every vector of a state is a multiple of this
BLOCK = 1024  # numbers that the last kernels add at once
LINES = 16  # lines of sums that a program adds at once


@dataclass(frozen=True)
class Setting:
    """The settings of a step, besides its tensors."""

    pairs: Pairs
    symmetric: bool = True
    memory: Memory = "balanced"
    needs_y: bool = True
    sigmoid: bool = False

    def weigh(self, n: int) -> tuple[float, float]:
        """Return the share of a row and of a column, which are also its positive's pulls."""
        if self.sigmoid:
            return 0.5, 0.5
        half = 0.5 if self.symmetric else 1.0
        return half / n, (1.0 - half) / n


@dataclass(frozen=True)
class DiagonalState:
    """A step's numbers: views of one float32 tensor that is saved for the backward."""

    whole: Tensor
    norms: PerSide
    shares: PerSide
    gains: PerSide
    logs: PerSide
    own: Tensor  # the positives' logits in bits, unshifted
    scalars: Tensor  # factor, shift, whether a row underflowed, boost

    @staticmethod
    def read(whole: Tensor, n: int, m: int) -> DiagonalState:
        """Return the views of a tensor of `state_length`."""
        a, b = _round_up(n), _round_up(m)
        *sides, own, scalars = whole.split([a, b] * 4 + [a, LINE])
        norms, shares, gains, logs = (PerSide(*sides[k : k + 2]) for k in (0, 2, 4, 6))
        return DiagonalState(whole, norms, shares, gains, logs, own, scalars)


def suits(x: Tensor, pairs: Pairs) -> bool:
    """Tell whether a step is supported here: positives on the diagonal, rows not too wide."""
    return pairs.row_labels is None and x.shape[1] <= WIDEST


def state_length(n: int, m: int) -> int:
    """Return how many float32 numbers a step saves for its backward."""
    return 5 * _round_up(n) + 4 * _round_up(m) + LINE


def compute_softmax(
    x: Tensor, y: Tensor, scale: Tensor, setting: Setting, *, keep: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the loss, the state, and the terms if they are kept."""
    n, m, device = x.shape[0], y.shape[0], x.device
    key = number_step(setting, keep, x, y, scale)
    state, partials, owns = _measure(x, y, scale, scale, setting, key)
    problem = _pose(x, y, state, setting)
    kept = allocate_kept(problem) if keep else None
    lines = TritonEngine().sweep(problem, state.scalars[1:], sigmoid=False, kept=kept, key=(key,))
    if not setting.symmetric:
        lines = (lines[0], lines[1][:0])
    rows = _bands(problem, n)
    columns = _bands(problem, m)
    finish = partial(_finish_sums, problem, state, sides=rows + columns, key=key)
    finish(lines[0], partials[owns:], swap=False)
    finish(lines[1], partials[owns + rows :], swap=True)
    value = torch.empty((), dtype=torch.float32, device=device)
    Again(value_kernel, (key,))[(1,)](
        partials, value, state.scalars, owns, rows + columns, 1.0 / n, BLOCK=BLOCK, num_warps=8
    )
    return value, state.whole, kept


def differentiate_softmax(
    upstream: Tensor, x: Tensor, y: Tensor, scale: Tensor, whole: Tensor, kept: Tensor | None,
    setting: Setting,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients by x, y (empty unless needed) and scale."""
    state = DiagonalState.read(whole, x.shape[0], y.shape[0])
    key = number_step(setting, kept is not None, x, y, scale, upstream)
    backward = _prepare(x, y, state, setting, kept, key)
    gx, gy, slopes, _ = _collect(backward, setting, scale, upstream, x.dtype)
    by_scale = torch.empty_like(scale)
    Again(slope_kernel, (key,))[(1,)](slopes, upstream, by_scale, slopes.shape[0], BLOCK=BLOCK)
    return gx, gy, by_scale


def compute_sigmoid(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, setting: Setting, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the loss and its gradients by x, y (empty unless needed), scale and bias."""
    key = number_step(setting, False, x, y, scale, bias)
    state, *_ = _measure(x, y, scale, bias, setting, key)
    backward = _prepare(x, y, state, setting, None, key)
    gx, gy, slopes, lines = _collect(backward, setting, scale, None, dtype)
    value = torch.empty((), dtype=torch.float32, device=x.device)
    by_scale, by_bias = torch.empty_like(scale), torch.empty_like(bias)
    Again(sigmoid_value_kernel, (key,))[(1,)](
        lines, slopes, value, by_scale, by_bias, lines[0].numel(), slopes.shape[0], 1.0 / len(x),
        BLOCK=BLOCK, num_warps=8,
    )  # fmt: skip
    return value, gx, gy, by_scale, by_bias


def _measure(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, setting: Setting, key: int | None
) -> tuple[DiagonalState, Tensor, int]:
    """Return the state with all results of single rows, buffers for sums, and their number."""
    n, m, d = x.shape[0], y.shape[0], x.shape[1]
    state = DiagonalState.read(
        torch.empty(state_length(n, m), dtype=torch.float32, device=x.device), n, m
    )
    high, wide = choose_rows(x)
    owns = divide_up(n, high)
    room = owns + 2 * (divide_up(n, LINE) + divide_up(m, LINE))
    partials = torch.empty(room, dtype=torch.float64, device=x.device)
    share_i, share_j = setting.weigh(n)
    Again(measure_kernel, (key,))[(owns + divide_up(m, high),)](
        x, y, scale, bias, state.norms.rows, state.norms.columns, state.shares.rows,
        state.shares.columns, state.own, partials, state.scalars, n, m, d, x.stride(0), y.stride(0),
        setting.pairs.offset, share_i, share_j, contrastive.HEADROOM,
        _find_boost(x, setting), BM=high, D=wide, SIGMOID=setting.sigmoid,
    )  # fmt: skip
    return state, partials, owns


def _finish_sums(
    problem: Problem, state: DiagonalState, lines: Tensor, partials: Tensor, *, sides: int,
    key: int | None, swap: bool,
) -> None:  # fmt: skip
    """Convert a side's lines of sums to logarithms and gains, and add them up by program."""
    x, y = (problem.y, problem.x) if swap else (problem.x, problem.y)
    launch = Launch.on(x.raw.device)
    tile = launch.tile("underflowed", x.raw, y.raw)
    share, log, gain = (
        p.columns if swap else p.rows for p in (state.shares, state.logs, state.gains)
    )
    Again(gain_kernel, (key, tile, swap, len(lines)))[(divide_up(len(x), tile.BM),)](
        *side_arguments(x, y), state.scalars, lines, share, log, gain, partials, partials[sides:],
        *label_arguments(problem), len(lines), len(problem.x), len(problem.y), x.raw.shape[1],
        x.raw.stride(0), y.raw.stride(0), problem.pairs.offset, problem.pairs.own_key_columns,
        contrastive.underflow_bar(len(y)), LINES=LINES, EVEN_K=x.raw.shape[1] % tile.BK == 0,
        SWAP=swap, **mask_constants(problem), **launch.options(tile, x.raw),
    )  # fmt: skip


def _prepare(
    x: Tensor,
    y: Tensor,
    state: DiagonalState,
    setting: Setting,
    kept: Tensor | None,
    key: int | None,
) -> Backward:
    problem = _pose(x, y, state, setting)
    weights = Weights(state.gains, state.shares, state.logs, state.shares)
    factor, shift, flag, boost = (state.scalars[k:] for k in range(4))
    tma = TritonEngine().takes_tma(problem)
    return Backward(
        problem, factor, shift, weights, flag, boost, setting.sigmoid, tma, kept, state.own, (key,)
    )


def _collect(
    backward: Backward, setting: Setting, scale: Tensor, upstream: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the raw rows' gradients, the programs' slopes, and the sigmoid's sums."""
    x, y = backward.problem.x, backward.problem.y
    n, m = len(x), len(y) if setting.needs_y else 0
    gx = torch.empty(x.raw.shape, dtype=dtype, device=x.raw.device)
    gy = torch.empty((m, x.raw.shape[1]) if m else (0,), dtype=dtype, device=x.raw.device)
    high, _ = choose_rows(x.raw)
    slopes = x.inverse_norm.new_empty(divide_up(n, high))
    project = _Projection(backward, setting, scale, upstream, gx, gy, slopes)
    waiting: list[Tensor] = []

    def take(rows: slice, dx: Tensor) -> None:
        if dx.shape[0] == n:
            waiting.append(dx)
        else:
            project.write(rows.start, dx, None)

    size = CHUNK_BYTES[setting.memory]
    if backward.kept is not None and setting.memory == "balanced":
        size //= 2  # the kept terms count too
    dy, lines = backward.by_pieces(take, size)
    project.write(0, waiting[0] if waiting else None, dy if m else None)
    return gx, gy, slopes, lines


@dataclass(frozen=True)
class _Projection:
    """Converts unit rows' gradients to the raw rows': some rows of x at a time, or all, and y's."""

    backward: Backward
    setting: Setting
    scale: Tensor
    upstream: Tensor | None
    gx: Tensor
    gy: Tensor
    slopes: Tensor

    def write(self, start: int, dx: Tensor | None, dy: Tensor | None) -> None:
        x, y = self.backward.problem.x, self.backward.problem.y
        n, m = 0 if dx is None else dx.shape[0], 0 if dy is None else dy.shape[0]
        high, wide = choose_rows(x.raw)
        programs = divide_up(n, high) + divide_up(m, high)
        if programs == 0:
            return
        raw, norm, gx = x.raw[start:], x.inverse_norm[start:], self.gx[start:]
        weight = 1.0 / len(x) if self.setting.sigmoid else 1.0
        any_d = dx if dx is not None else dy
        key = (self.backward.key, start, n, m)
        Again(projections_kernel, key)[(programs,)](
            raw, y.raw, norm, y.inverse_norm, dx if dx is not None else any_d,
            dy if dy is not None else any_d, self.scale,
            self.scale if self.upstream is None else self.upstream, gx,
            self.gy if m else gx, self.slopes[start // high :],
            n, m, raw.shape[1], raw.stride(0), y.raw.stride(0), gx.stride(0), gx.stride(0),
            1.0 / _find_boost(raw, self.setting, len(x)), weight,
            BM=high, D=wide, UPSTREAM=self.upstream is not None,
        )  # fmt: skip


def _pose(x: Tensor, y: Tensor, state: DiagonalState, setting: Setting) -> Problem:
    sides = Side(x, state.norms.rows), Side(y, state.norms.columns)
    return Problem(
        *sides, state.scalars, setting.pairs, setting.symmetric, setting.needs_y,
        memory=setting.memory,
    )  # fmt: skip


def _find_boost(x: Tensor, setting: Setting, n: int | None = None) -> float:
    """Return the factor that lifts a float16 G above the subnormal numbers; 1 for other types."""
    if x.dtype != torch.float16:
        return 1.0
    return HALF_BOOST if setting.sigmoid else HALF_BOOST / max(setting.weigh(n or x.shape[0]))


def _bands(problem: Problem, rows: int) -> int:
    launch = Launch.on(problem.x.raw.device)
    return divide_up(rows, launch.tile("underflowed", problem.x.raw, problem.y.raw).BM)


def _round_up(length: int) -> int:
    return -(-length // LINE) * LINE
