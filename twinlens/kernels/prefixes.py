"""Losses of several prefixes in one pass over the pairs: Matryoshka.

The cosine of a prefix grows segment by segment, so one product of the whole width gives those of all
prefixes. In the backward the gradient of a segment takes the sum of the prefixes' G that hold it,
so G's two products are of the whole width too: 4 units of 2nmd for a softmax and 3 for a sigmoid,
d the longest width, however many prefixes there are.

    u = x / |x|               cos_k = a_k b_k <u, v> up to width k,  a_k = |u| / |u up to width k|
    H_s = sum over k >= s of a_k b_k G_k                       for the segment s that ends at width s
    d/du = H_s v - u * sum over k >= s of a_k^2 slope_k,                   slope_k = sum_j G_k cos_k

What must stay true: each prefix counts as if it stood alone, whatever the norms of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from twinlens.kernels import contrastive, ops, positives
from twinlens.kernels.contrastive import (
    LOG2_E,
    InputGradient,
    Memory,
    PerSide,
    Problem,
    Side,
    Sums,
    linear_blocks,
)
from twinlens.kernels.pairs import Pairs


@dataclass(frozen=True)
class Prefixes:
    """Rows against columns at several widths, each with its weight; `problems` are theirs alone."""

    x: Tensor  # (n, d), d the longest width
    y: Tensor
    widths: tuple[int, ...]
    weights: tuple[float, ...]
    norms: PerSide  # inverse norms, (widths, n) and (widths, m)
    problems: tuple[Problem, ...]

    @staticmethod
    def pose(
        x: Tensor, y: Tensor, factor: Tensor, widths: Sequence[int], weights: Sequence[float],
        **settings: Any,
    ) -> Prefixes:  # fmt: skip
        """Measure the norms; `factor` and settings are those of each `Problem`."""
        x, y = x[:, : widths[-1]], y[:, : widths[-1]]
        norms = PerSide(*(torch.stack([_measure(t, w) for w in widths]) for t in (x, y)))
        problems = tuple(
            Problem(
                Side(x[:, :width], norms.rows[k]), Side(y[:, :width], norms.columns[k]),
                factor, **settings,
            )
            for k, width in enumerate(widths)
        )  # fmt: skip
        return Prefixes(x, y, tuple(widths), tuple(weights), norms, problems)

    @property
    def whole(self) -> Problem:
        """Return the problem of the longest prefix."""
        return self.problems[-1]

    @cached_property
    def segments(self) -> tuple[slice, ...]:
        """Return the columns by which each prefix is longer than the one before."""
        ends = (0, *self.widths)
        return tuple(slice(*ends[k : k + 2]) for k in range(len(self.widths)))

    def weigh(self, each: PerSide) -> list[PerSide]:
        """Return a share or pull times each prefix's weight."""
        return [PerSide(each.rows * w, each.columns * w) for w in self.weights]


@dataclass(frozen=True)
class PrefixGradient:
    """What a pass over the pairs says about the gradients: of whole unit rows, and slopes."""

    by_x: Tensor  # H v (n, d)
    by_y: Tensor  # H^T u (m, d), empty unless needed
    slopes: PerSide  # (widths, n) and (widths, m)
    left_out: tuple[int, ...] = ()  # prefixes that the pass could not take; no part of the rest


@dataclass(frozen=True)
class PrefixValue:
    """The sigmoid's weighted value and the sum of its G, beside the gradient."""

    value: Tensor
    total: Tensor
    gradient: PrefixGradient


class PrefixEngine(Protocol):
    """The passes over the pairs, of all prefixes at once."""

    def prefix_sums(self, prefixes: Prefixes, shares: list[PerSide]) -> list[PerSide]:
        """Return each prefix's log-sum-exps, as `Engine.softmax_sums`."""
        ...

    def prefix_gradient(
        self, prefixes: Prefixes, lse: list[PerSide], shares: list[PerSide], pulls: list[PerSide]
    ) -> PrefixGradient:
        """Return the softmax's gradient from its log-sum-exps."""
        ...

    def prefix_sigmoid(self, prefixes: Prefixes, bias: Tensor, pull: PerSide) -> PrefixValue:
        """Return the sigmoid's value and gradient in one pass."""
        ...


def project(
    prefixes: Prefixes, gradient: PrefixGradient, factor: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the raw rows' gradients by x and by y from those of the unit rows."""
    norms, slopes = prefixes.norms, gradient.slopes
    by_x = _project(prefixes, prefixes.x, norms.rows, gradient.by_x, slopes.rows, factor)
    if not len(gradient.by_y):
        return by_x.to(dtype), prefixes.y.new_empty(0, dtype=dtype)
    by_y = _project(prefixes, prefixes.y, norms.columns, gradient.by_y, slopes.columns, factor)
    return by_x.to(dtype), by_y.to(dtype)


def _project(
    prefixes: Prefixes, raw: Tensor, norms: Tensor, gradient: Tensor, slopes: Tensor, factor: Tensor
) -> Tensor:
    """Take off what points outwards, prefix by prefix, and divide by the norm; in place."""
    longer = norms / norms[-1]
    outward = (longer * longer * slopes).flip(0).cumsum(0).flip(0)
    scaled = norms[-1] * factor
    for rows in linear_blocks(gradient):
        for k, columns in enumerate(prefixes.segments):
            unit = raw[rows, columns].to(norms.dtype) * norms[-1, rows, None]
            part = gradient[rows, columns]
            part.addcmul_(unit, outward[k, rows, None], value=-1).mul_(scaled[rows, None])
    return gradient


class SoftmaxPrefixes(torch.autograd.Function):
    """The weighted softmax losses of several prefixes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, scale: Tensor, widths: Sequence[int],
        weights: Sequence[float], pairs: Pairs, symmetric: bool, engine: str, memory: Memory,
    ) -> Tensor:  # fmt: skip
        prefixes = _pose(x, y, scale, widths, weights, LOG2_E, pairs, symmetric, memory)
        chosen = choose_engine(engine, x)
        each, pull = contrastive.compute_weights(prefixes.whole)
        shares = prefixes.weigh(each)
        lse = chosen.prefix_sums(prefixes, shares)
        alone, value = ops.choose_engine(engine, x), scale.new_zeros((), dtype=prefixes.whole.factor.dtype)
        for problem, sums, share, weighed in zip(
            prefixes.problems, lse, shares, prefixes.weigh(pull), strict=True
        ):
            attraction = positives.attraction(problem, weighed, alone)
            value = value + contrastive.softmax_loss(sums, share, attraction, problem.factor)
        ctx.settings = (widths, weights, pairs, symmetric, engine, memory)
        ctx.save_for_backward(x, y, scale, *(t for sums in lse for t in (sums.rows, sums.columns)))
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, *flat = ctx.saved_tensors
        widths, weights, pairs, symmetric, engine, memory = ctx.settings
        needs_y = ctx.needs_input_grad[1]
        prefixes = _pose(
            x, y, scale, widths, weights, LOG2_E, pairs, symmetric, memory, needs_y=needs_y
        )
        lse = [PerSide(*flat[k : k + 2]) for k in range(0, len(flat), 2)]
        shares, pulls = map(prefixes.weigh, contrastive.compute_weights(prefixes.whole))
        gradient = choose_engine(engine, x).prefix_gradient(prefixes, lse, shares, pulls)
        factor = scale.to(prefixes.whole.factor.dtype) * upstream
        gx, gy = project(prefixes, gradient, factor, gradient.by_x.dtype)
        slope = gradient.slopes.rows.sum()
        for k in gradient.left_out:
            slope = slope + _add_alone(prefixes.problems[k], lse[k], shares[k], pulls[k], factor, engine, gx, gy)
        gx, gy = _widen(x, gx), _widen(y, gy) if needs_y else None
        return gx, gy, (slope * upstream).to(scale.dtype), *([None] * 6)


class SigmoidPrefixes(torch.autograd.Function):
    """The weighted sigmoid losses of several prefixes; the backward only multiplies."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, widths: Sequence[int],
        weights: Sequence[float], pairs: Pairs, engine: str, memory: Memory,
    ) -> Tensor:  # fmt: skip
        prefixes = _pose(
            x, y, scale, widths, weights, 1.0, pairs, False, memory, needs_y=ctx.needs_input_grad[1]
        )
        wide, n = prefixes.whole.factor.dtype, len(x)
        pull = contrastive.sigmoid_pull(prefixes.whole)
        done = choose_engine(engine, x).prefix_sigmoid(prefixes, bias.to(wide), pull)
        gx, gy = project(prefixes, done.gradient, scale.to(wide) / n, ops.saved_type(x))
        ctx.types = [t.dtype for t in (x, y, scale, bias)]
        by_scale, by_bias = done.gradient.slopes.rows.sum() / n, done.total / n
        gy = _widen(y, gy) if ctx.needs_input_grad[1] else gy
        ctx.save_for_backward(_widen(x, gx), gy, by_scale, by_bias)
        return done.value / n

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *ops.multiply_saved(ctx, upstream), *([None] * 5)


def choose_engine(name: str, x: Tensor) -> PrefixEngine:
    """Return the engine of that name for several prefixes at once."""
    from twinlens.kernels.chunked import ChunkedEngine
    from twinlens.kernels.chunked_prefixes import ChunkedPrefixes

    if isinstance(ops.choose_engine(name, x), ChunkedEngine):
        return ChunkedPrefixes()
    from twinlens.kernels.gpu.prefixes import TritonPrefixes

    return TritonPrefixes()


def _pose(
    x: Tensor, y: Tensor, scale: Tensor, widths: Sequence[int], weights: Sequence[float],
    per: float, pairs: Pairs, symmetric: bool, memory: Memory, *, needs_y: bool = True,
) -> Prefixes:  # fmt: skip
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return Prefixes.pose(
        x, y, scale.to(wide) * per, widths, weights,
        pairs=pairs, symmetric=symmetric, needs_y=needs_y, memory=memory,
    )  # fmt: skip


def _add_alone(
    problem: Problem, lse: PerSide, shares: PerSide, pull: PerSide, factor: Tensor, engine: str,
    gx: Tensor, gy: Tensor,
) -> Tensor:  # fmt: skip
    """Add the gradients of a prefix by itself; return its slope."""
    alone, wide = ops.choose_engine(engine, problem.x.raw), factor.dtype
    by_x, by_y = (InputGradient(side, factor, alone, wide) for side in (problem.x, problem.y))
    dy = alone.softmax_gradient(problem, Sums(lse), shares, pull, by_x.take)
    width = problem.x.raw.shape[1]
    gx[:, :width] += by_x.raw
    if problem.needs_y:
        by_y.take(slice(0, len(dy)), dy)
        gy[:, :width] += by_y.raw
    return by_x.slope


def _measure(rows: Tensor, width: int) -> Tensor:
    return Side.measure(rows[:, :width]).inverse_norm


def _widen(like: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient in the type and width of its rows; beyond the longest prefix it is zero."""
    if gradient.shape[1] == like.shape[1]:
        return gradient if gradient.dtype == like.dtype else gradient.to(like.dtype)
    out = like.new_zeros(like.shape, dtype=gradient.dtype)
    out[:, : gradient.shape[1]] = gradient
    return out.to(like.dtype)
