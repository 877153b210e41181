"""Matryoshka losses as autograd functions: several prefixes in one pass, by a suitable engine.

What must stay true: the value and the gradients are the sums of the prefixes' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twinlens.kernels import contrastive, engines, ops, positives
from twinlens.kernels.chunked import ChunkedEngine
from twinlens.kernels.chunked_prefixes import ChunkedPrefixes
from twinlens.kernels.contrastive import (
    LOG2_E,
    Engine,
    InputGradient,
    Memory,
    PerSide,
    Problem,
    Sums,
)
from twinlens.kernels.pairs import Pairs
from twinlens.kernels.prefixes import PrefixEngine, Prefixes, project


def contrast(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor | None, widths: Sequence[int],
    weights: Sequence[float], pairs: Pairs, symmetric: bool, engine: str, memory: Memory,
) -> Tensor:  # fmt: skip
    """Return the weighted sum of the prefixes' losses: with a bias, the sigmoid's."""
    value: Tensor
    if bias is None:
        value = _Softmax.apply(x, y, scale, widths, weights, pairs, symmetric, engine, memory)
    else:
        value = _Sigmoid.apply(x, y, scale, bias, widths, weights, pairs, engine, memory)
    return value


def suits(engine: str, x: Tensor) -> bool:
    """Tell whether one pass supports these.

    Not float16 on a GPU, whose range is too small for a prefix much shorter than the whole row, and
    not under a compiler, which cannot see it as an operator.
    """
    chunked = isinstance(engines.choose_engine(engine, x), ChunkedEngine)
    return (chunked or x.dtype != torch.float16) and not torch.compiler.is_compiling()


class _Softmax(torch.autograd.Function):
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
        alone, value = (
            engines.choose_engine(engine, x),
            scale.new_zeros((), dtype=prefixes.whole.factor.dtype),
        )
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
        alone = _Alone(factor, engines.choose_engine(engine, x), gx, gy)
        for k in gradient.left_out:
            slope = slope + alone.add(prefixes.problems[k], lse[k], shares[k], pulls[k])
        by_y = _widen(y, gy) if needs_y else None
        return _widen(x, gx), by_y, (slope * upstream).to(scale.dtype), *([None] * 6)


class _Sigmoid(torch.autograd.Function):
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
        gx, gy = project(prefixes, done.gradient, scale.to(wide) / n, engines.saved_type(x))
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
    if isinstance(engines.choose_engine(name, x), ChunkedEngine):
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


@dataclass(frozen=True)
class _Alone:
    """Adds the gradients of prefixes that are computed separately."""

    factor: Tensor
    engine: Engine
    gx: Tensor
    gy: Tensor

    def add(self, problem: Problem, lse: PerSide, shares: PerSide, pull: PerSide) -> Tensor:
        """Add one prefix's gradient; return its slope."""
        by_x, by_y = (
            InputGradient(side, self.factor, self.engine, self.factor.dtype)
            for side in (problem.x, problem.y)
        )
        dy = self.engine.softmax_gradient(problem, Sums(lse), shares, pull, by_x.take)
        width = problem.x.raw.shape[1]
        self.gx[:, :width] += by_x.raw
        if problem.needs_y:
            by_y.take(slice(0, len(dy)), dy)
            self.gy[:, :width] += by_y.raw
        return by_x.slope


def _widen(like: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient in the type and width of its rows; beyond the longest prefix it is zero."""
    if gradient.shape[1] == like.shape[1]:
        return gradient if gradient.dtype == like.dtype else gradient.to(like.dtype)
    out = like.new_zeros(like.shape, dtype=gradient.dtype)
    out[:, : gradient.shape[1]] = gradient
    return out.to(like.dtype)
