"""The torch operators `twinlens::*`, for autograd, `torch.compile` and device dispatch.

An operator is opaque to the compiler (the data decide whether a row needs the exact formula), so
each has a fake that knows only shapes. What must stay true: importing this registers everything and
needs no GPU: the Triton engine is imported by the first call that runs on one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from twinlens.kernels import contrastive, engines, positives
from twinlens.kernels.contrastive import (
    LOG2_E,
    InputGradient,
    PerSide,
    Problem,
    Side,
    Sums,
)
from twinlens.kernels.pairs import Pairs


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
    memory: str,
    differentiate: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the softmax contrastive loss, and what its gradient needs: log-sum-exps, kept terms.

    The last is empty unless terms are kept.
    """
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns)
    keep = differentiate and engines.keeps_terms(engine, x, y, pairs, memory)
    if engines.takes_few_launches(engine, x, pairs):
        loss, state, terms = _steps().compute_softmax(
            x, y, scale, _steps().Setting(pairs, symmetric, memory), keep=keep
        )
        return loss, state, state.new_empty(0), _kept_or_none(engine, x, terms)
    problem = _build_problem(x, y, scale, pairs, memory, bits=True, symmetric=symmetric)
    shares, pull = contrastive.compute_weights(problem)
    chosen = engines.choose_engine(engine, x)
    sums = chosen.softmax_sums(problem, shares, keep=keep)
    attraction = positives.attraction(problem, pull, chosen)
    loss = contrastive.softmax_loss(sums.lse, shares, attraction, problem.factor)
    return loss, sums.lse.rows, sums.lse.columns, _kept_or_none(engine, x, sums.kept)


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
    kept: Tensor,
    offset: int,
    exclude_self: bool,
    own_key_columns: int,
    symmetric: bool,
    engine: str,
    memory: str,
    needs_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by x, y (empty unless needed) and scale."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns)
    if engines.takes_few_launches(engine, x, pairs):
        setting = _steps().Setting(pairs, symmetric, memory, needs_y)
        terms = kept if kept.numel() else None
        gx, gy, gscale = _steps().differentiate_softmax(
            upstream, x, y, scale, row_lse, terms, setting
        )
        return gx, gy, gscale
    problem = _build_problem(
        x, y, scale, pairs, memory, bits=True, symmetric=symmetric, needs_y=needs_y
    )
    shares, pull = contrastive.compute_weights(problem)
    wide, chosen = problem.factor.dtype, engines.choose_engine(engine, x)
    by_x = InputGradient(problem.x, scale.to(wide) * upstream.to(wide), chosen)
    sums = Sums(PerSide(row_lse, column_lse), kept if kept.numel() else None)
    dy = chosen.softmax_gradient(problem, sums, shares, pull, by_x.take)
    gy = _gradient_of_y(problem, by_x, dy)
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
    weigh_positives: bool,
    engine: str,
    memory: str,
    differentiate: bool,
    needs_y: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the sigmoid contrastive loss and, if asked, its gradients by x, y, scale and bias.

    All come from one pass over the pairs; the backward only multiplies. Gradients that are not
    needed are empty.
    """
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns, weigh_positives)
    if differentiate and engines.takes_few_launches(engine, x, pairs):
        setting = _steps().Setting(pairs, False, memory, needs_y, sigmoid=True)
        value, *gradients = _steps().compute_sigmoid(
            x, y, scale, bias, setting, engines.saved_type(x)
        )
        gx, gy, by_scale, by_bias = gradients
        return value, gx, gy, by_scale, by_bias
    problem = _build_problem(x, y, scale, pairs, memory, bits=False, needs_y=needs_y)
    wide, chosen = problem.factor.dtype, engines.choose_engine(engine, x)
    pull = contrastive.sigmoid_pull(problem)
    if not differentiate:
        value = chosen.sigmoid_total(problem, bias.to(wide), pull) / len(x)
        return value, x.new_empty(0), y.new_empty(0), scale.new_empty(0), bias.new_empty(0)
    by_x = InputGradient(problem.x, scale.to(wide) / len(x), chosen, engines.saved_type(x))
    done = chosen.sigmoid_pass(problem, bias.to(wide), pull, by_x.take)
    gy = _gradient_of_y(problem, by_x, done.by_y)
    by_scale, by_bias = by_x.slope / len(x), done.total / len(x)
    return done.value / len(x), by_x.raw, gy, by_scale.to(scale.dtype), by_bias.to(bias.dtype)


def _steps() -> Any:
    from twinlens.kernels.gpu import diagonal

    return diagonal


def _build_problem(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs,
    memory: Any,
    *,
    bits: bool,
    symmetric: bool = False,
    needs_y: bool = True,
) -> Problem:
    a, b = Side.measure(x), Side.measure(y)
    factor = scale.to(a.inverse_norm.dtype) * (LOG2_E if bits else 1.0)
    return Problem(a, b, factor, pairs, symmetric, needs_y, memory=memory)


def _kept_or_none(engine: str, x: Tensor, kept: Tensor | None) -> Tensor:
    return engines.make_kept(engine, x, 0, 0) if kept is None else kept


def _gradient_of_y(problem: Problem, by_x: InputGradient, dy: Tensor) -> Tensor:
    if not problem.needs_y:
        return problem.y.raw.new_empty(0, dtype=by_x.raw.dtype)
    by_y = InputGradient(problem.y, by_x.factor, by_x.engine, by_x.raw.dtype)
    by_y.take(slice(0, len(dy)), dy)
    return by_y.raw


@softmax_contrast.register_fake
def _(
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
    memory: str,
    differentiate: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lse = [t.new_empty(len(t), dtype=torch.float64) for t in (x, y)]
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, own_key_columns)
    if engines.takes_few_launches(engine, x, pairs):
        length = _steps().state_length(len(x), len(y))
        lse = [x.new_empty(k, dtype=torch.float32) for k in (length, 0)]
    keep = differentiate and engines.keeps_terms(engine, x, y, pairs, memory)
    kept = engines.make_kept(engine, x, *((len(x), len(y)) if keep else (0, 0)))
    return x.new_empty((), dtype=engines.wide_type(x)), lse[0], lse[1], kept


@softmax_contrast_backward.register_fake
def _(
    upstream: Tensor, x: Tensor, y: Tensor, scale: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(x, True), _like(y, rest[-1]), torch.empty_like(scale)


@sigmoid_contrast.register_fake
def _(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    differentiate, needs_y = rest[-2:]
    value = x.new_empty((), dtype=engines.wide_type(x))
    if not differentiate:
        return value, x.new_empty(0), y.new_empty(0), scale.new_empty(0), bias.new_empty(0)
    gx, gy = (t.to(engines.saved_type(x)) for t in (_like(x, True), _like(y, needs_y)))
    return value, gx, gy, torch.empty_like(scale), torch.empty_like(bias)


def _like(side: Tensor, needed: bool) -> Tensor:
    return side.new_empty(side.shape) if needed else side.new_empty(0)


def _keep_softmax(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, scale, row_labels, column_labels, *settings, _ = inputs
    _, row_lse, column_lse, kept = output
    ctx.settings = settings
    ctx.set_materialize_grads(False)  # autograd would make zeros as large as the kept terms
    ctx.mark_non_differentiable(row_lse, column_lse, kept)
    ctx.save_for_backward(x, y, scale, row_labels, column_labels, row_lse, column_lse, kept)


def _softmax_backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if upstream is None:
        return (None,) * 12
    needs_y = ctx.needs_input_grad[1]
    gx, gy, gscale = softmax_contrast_backward(upstream, *ctx.saved_tensors, *ctx.settings, needs_y)
    return gx, gy if needs_y else None, gscale, *([None] * 9)


def _keep_sigmoid(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.types = [t.dtype for t in inputs[:4]]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:])


def _sigmoid_backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if upstream is None:
        return (None,) * 14
    return *multiply_saved(ctx, upstream), *([None] * 10)


def multiply_saved(ctx: Any, upstream: Tensor) -> list[Tensor | None]:
    """Return the gradients that a sigmoid's forward saved, times the incoming gradient."""
    return [
        (upstream * g).to(dtype) if needed and g.numel() else None
        for needed, g, dtype in zip(
            ctx.needs_input_grad[:4], ctx.saved_tensors, ctx.types, strict=True
        )
    ]


softmax_contrast.register_autograd(_softmax_backward, setup_context=_keep_softmax)
sigmoid_contrast.register_autograd(_sigmoid_backward, setup_context=_keep_sigmoid)
