"""The torch operators `twinlens::*`: what autograd, `torch.compile` and dispatch by device see.

An operator is opaque to the compiler (data decide in it whether a row needs the exact formula), so
each has a fake that knows shapes alone. Importing this registers everything and needs no GPU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from twinlens.kernels import contrastive
from twinlens.kernels.contrastive import ChunkedEngine, Engine, PerSide, Side
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
    private: int,
    symmetric: bool,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the softmax contrastive loss, and the log-sum-exps that its gradient needs."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, private)
    run, a, b, s = _prepare(engine, x, y, scale)
    s2 = s * math.log2(math.e)
    shares, pull = contrastive.weigh(pairs, a, b, symmetric=symmetric)
    lse = contrastive.softmax_statistics(run, a, b, s2, pairs, shares)
    loss = contrastive.softmax_loss(a, b, s2, pairs, lse, shares, pull)
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
    private: int,
    symmetric: bool,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by x, y and scale."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, private)
    run, a, b, s = _prepare(engine, x, y, scale)
    shares, pull = contrastive.weigh(pairs, a, b, symmetric=symmetric)
    lse = PerSide(row_lse, column_lse)
    s2 = s * math.log2(math.e)
    dx, dy = contrastive.softmax_gradient(run, a, b, s2, pairs, lse, shares, pull)
    gx, gy, gscale = contrastive.finish(a, b, s, dx, dy, upstream)
    return gx, gy, gscale.to(scale.dtype)


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
    private: int,
    engine: str,
) -> Tensor:
    """Return the sigmoid contrastive loss."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, private)
    run, a, b, s = _prepare(engine, x, y, scale)
    return run.sigmoid_total(a, b, s, bias.to(s.dtype), pairs) / len(x)


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
    private: int,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients by x, y, scale and bias."""
    pairs = Pairs(offset, row_labels, column_labels, exclude_self, private)
    run, a, b, s = _prepare(engine, x, y, scale)
    dx, dy, total = run.sigmoid_gradient(a, b, s, bias.to(s.dtype), pairs)
    factor = upstream / len(x)
    gx, gy, gscale = contrastive.finish(a, b, s, dx, dy, factor)
    return gx, gy, gscale.to(scale.dtype), (total * factor).to(bias.dtype)


def _prepare(name: str, x: Tensor, y: Tensor, scale: Tensor) -> tuple[Engine, Side, Side, Tensor]:
    engine = _engine(name, x)
    a, b = engine.measure(x), engine.measure(y)
    return engine, a, b, scale.to(a.inverse_norm.dtype)


def _engine(name: str, x: Tensor) -> Engine:
    return ChunkedEngine()


@softmax_contrast.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    like = x.new_empty((), dtype=_wide(x))
    lse = [like.new_empty(len(t), dtype=torch.float64) for t in (x, y)]
    return like, lse[0], lse[1]


@softmax_contrast_backward.register_fake
def _(
    upstream: Tensor, x: Tensor, y: Tensor, scale: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(y), torch.empty_like(scale)


@sigmoid_contrast.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, *rest: Any) -> Tensor:
    return x.new_empty((), dtype=_wide(x))


@sigmoid_contrast_backward.register_fake
def _(
    upstream: Tensor, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(t) for t in (x, y, scale, bias))  # type: ignore[return-value]


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _keep_softmax(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, y, scale, row_labels, column_labels, *ctx.settings = inputs
    _, row_lse, column_lse = output
    ctx.mark_non_differentiable(row_lse, column_lse)
    ctx.save_for_backward(x, y, scale, row_labels, column_labels, row_lse, column_lse)


def _softmax_backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    gradients = softmax_contrast_backward(upstream, *ctx.saved_tensors, *ctx.settings)
    return *gradients, *([None] * 7)


def _keep_sigmoid(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.settings = *inputs[:6], inputs[6:]
    ctx.save_for_backward(*tensors)


def _sigmoid_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    gradients = sigmoid_contrast_backward(upstream, *ctx.saved_tensors, *ctx.settings)
    return *gradients, *([None] * 6)


softmax_contrast.register_autograd(_softmax_backward, setup_context=_keep_softmax)
sigmoid_contrast.register_autograd(_sigmoid_backward, setup_context=_keep_sigmoid)
