"""The torch operators `twinlens::*`: what autograd, `torch.compile` and dispatch by device see.

An operator is opaque to the compiler (data decide in it whether a row needs the exact formula), so
each has a fake that knows shapes alone. Importing this registers everything and needs no GPU: the
Triton engine is imported by the first call that runs on one.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from twinlens.errors import InputError, MissingDependencyError
from twinlens.kernels import contrastive, positives
from twinlens.kernels.chunked import ChunkedEngine
from twinlens.kernels.contrastive import LOG2_E, Engine, InputGradient, PerSide, Problem, Side
from twinlens.kernels.pairs import Pairs

ENGINES = ("auto", "chunked", "triton")


@torch.library.custom_op("twinlens::softmax_contrast", mutates_args=())
def softmax_contrast(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    row_labels: Tensor | None,
    column_labels: Tensor | None,
    offset: int,
    exclude_self: bool,
    own_key_columns: int,
    symmetric: bool,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the softmax contrastive loss, and the log-sum-exps that its gradient needs."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns)
    problem = _build_problem(x, y, scale, pairs, bits=True, symmetric=symmetric)
    shares, pull = contrastive.compute_weights(problem)
    lse = choose_engine(engine, x).softmax_lse(problem, shares)
    attraction = positives.attraction(problem, pull)
    loss = contrastive.softmax_loss(lse, shares, attraction, problem.factor)
    return loss, lse.rows, lse.columns


@torch.library.custom_op("twinlens::softmax_contrast_backward", mutates_args=())
def softmax_contrast_backward(
    upstream: Tensor,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    row_labels: Tensor | None,
    column_labels: Tensor | None,
    row_lse: Tensor,
    column_lse: Tensor,
    offset: int,
    exclude_self: bool,
    own_key_columns: int,
    symmetric: bool,
    engine: str,
    needs_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by x, y (empty unless needed) and scale."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns)
    problem = _build_problem(x, y, scale, pairs, bits=True, symmetric=symmetric, needs_y=needs_y)
    shares, pull = contrastive.compute_weights(problem)
    wide = problem.factor.dtype
    by_x = InputGradient(problem.x, scale.to(wide) * upstream.to(wide))
    dy = choose_engine(engine, x).softmax_gradient(
        problem, PerSide(row_lse, column_lse), shares, pull, by_x.take
    )
    gy = _gradient_of_y(problem, by_x.factor, dy)
    return by_x.raw, gy, (by_x.slope * upstream).to(scale.dtype)


@torch.library.custom_op("twinlens::sigmoid_contrast", mutates_args=())
def sigmoid_contrast(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    row_labels: Tensor | None,
    column_labels: Tensor | None,
    offset: int,
    exclude_self: bool,
    own_key_columns: int,
    engine: str,
) -> Tensor:
    """Return the sigmoid contrastive loss."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns)
    problem = _build_problem(x, y, scale, pairs, bits=False)
    total = choose_engine(engine, x).sigmoid_total(problem, bias.to(problem.factor.dtype))
    return total / len(x)


@torch.library.custom_op("twinlens::sigmoid_contrast_backward", mutates_args=())
def sigmoid_contrast_backward(
    upstream: Tensor,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    row_labels: Tensor | None,
    column_labels: Tensor | None,
    offset: int,
    exclude_self: bool,
    own_key_columns: int,
    engine: str,
    needs_y: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients by x, y (empty unless needed), scale and bias."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns)
    problem = _build_problem(x, y, scale, pairs, bits=False, needs_y=needs_y)
    wide = problem.factor.dtype
    share = upstream.to(wide) / len(x)
    by_x = InputGradient(problem.x, scale.to(wide) * share)
    dy, total = choose_engine(engine, x).sigmoid_gradient(problem, bias.to(wide), by_x.take)
    gy = _gradient_of_y(problem, by_x.factor, dy)
    return by_x.raw, gy, (by_x.slope * share).to(scale.dtype), (total * share).to(bias.dtype)


def choose_engine(name: str, x: Tensor) -> Engine:
    """Return the engine of that name; "auto" takes Triton for what it can do on a GPU."""
    if name not in ENGINES:
        raise InputError(f"engine is {name!r}; known are {', '.join(ENGINES)}", field="engine")
    if name == "chunked" or (name == "auto" and not suits_triton(x)):
        return ChunkedEngine()
    if importlib.util.find_spec("triton") is None:
        raise MissingDependencyError("engine 'triton' needs triton: pip install 'triton>=3.6'")
    from twinlens.kernels.gpu.engine import TritonEngine

    return TritonEngine()


def suits_triton(x: Tensor) -> bool:
    """Tell whether the Triton kernels can take such embeddings, here."""
    return x.is_cuda and x.dtype != torch.float64 and importlib.util.find_spec("triton") is not None


def _build_problem(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs,
    *,
    bits: bool,
    symmetric: bool = False,
    needs_y: bool = True,
) -> Problem:
    a, b = Side.measure(x), Side.measure(y)
    factor = scale.to(a.inverse_norm.dtype) * (LOG2_E if bits else 1.0)
    return Problem(a, b, factor, pairs, symmetric, needs_y)


def _gradient_of_y(problem: Problem, factor: Tensor, dy: Tensor) -> Tensor:
    if not problem.needs_y:
        return problem.y.raw.new_empty(0)
    by_y = InputGradient(problem.y, factor)
    by_y.take(slice(0, len(dy)), dy)
    return by_y.raw


@softmax_contrast.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    lse = [t.new_empty(len(t), dtype=torch.float64) for t in (x, y)]
    return x.new_empty((), dtype=_wide(x)), lse[0], lse[1]


@softmax_contrast_backward.register_fake
def _(
    upstream: Tensor, x: Tensor, y: Tensor, scale: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), _like_y(y, rest[-1]), torch.empty_like(scale)


@sigmoid_contrast.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, *rest: Any) -> Tensor:
    return x.new_empty((), dtype=_wide(x))


@sigmoid_contrast_backward.register_fake
def _(
    upstream: Tensor, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(x),
        _like_y(y, rest[-1]),
        torch.empty_like(scale),
        torch.empty_like(bias),
    )


def _like_y(y: Tensor, needed: bool) -> Tensor:
    return torch.empty_like(y) if needed else y.new_empty(0)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _keep_softmax(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, scale, row_labels, column_labels, *ctx.settings = inputs
    _, row_lse, column_lse = output
    ctx.mark_non_differentiable(row_lse, column_lse)
    ctx.save_for_backward(x, y, scale, row_labels, column_labels, row_lse, column_lse)


def _softmax_backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    needs_y = ctx.needs_input_grad[1]
    gx, gy, gscale = softmax_contrast_backward(upstream, *ctx.saved_tensors, *ctx.settings, needs_y)
    return gx, gy if needs_y else None, gscale, *([None] * 7)


def _keep_sigmoid(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.settings = inputs[6:]


def _sigmoid_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    needs_y = ctx.needs_input_grad[1]
    gx, gy, gscale, gbias = sigmoid_contrast_backward(
        upstream, *ctx.saved_tensors, *ctx.settings, needs_y
    )
    return gx, gy if needs_y else None, gscale, gbias, *([None] * 6)


softmax_contrast.register_autograd(_softmax_backward, setup_context=_keep_softmax)
sigmoid_contrast.register_autograd(_sigmoid_backward, setup_context=_keep_sigmoid)
