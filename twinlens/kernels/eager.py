"""Losses in few launches as plain autograd functions, for callers without a compiler.

torch's dispatcher takes a tenth of a millisecond for a custom operator and its backward: as long as
all launches of a small batch. What must stay true: the numbers equal those of `ops`, whose
operators a compiler sees instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from twinlens.kernels import engines, ops
from twinlens.kernels.contrastive import Memory
from twinlens.kernels.pairs import Pairs


def contrast(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor | None, pairs: Pairs,
    symmetric: bool, engine: str, memory: Memory,
) -> Tensor:  # fmt: skip
    """Return the loss of pairs on the diagonal by the Triton engine: with a bias, the sigmoid's."""
    from twinlens.kernels.gpu.diagonal import Setting

    needs_y = y.requires_grad
    value: Tensor
    if bias is not None:
        setting = Setting(pairs, False, memory, needs_y, sigmoid=True)
        value = _Sigmoid.apply(x, y, scale, bias, setting)
    else:
        value = _Softmax.apply(x, y, scale, Setting(pairs, symmetric, memory, needs_y), engine)
    return value


class _Softmax(torch.autograd.Function):
    """The softmax's step; one tensor holds what its backward needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: Tensor, setting: Any, engine: str) -> Tensor:
        from twinlens.kernels.gpu import diagonal

        keep = any(ctx.needs_input_grad) and engines.keeps_terms(
            engine, x, y, setting.pairs, setting.memory
        )
        value, state, kept = diagonal.compute_softmax(x, y, scale, setting, keep=keep)
        ctx.setting = setting
        ctx.save_for_backward(x, y, scale, state, kept)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        from twinlens.kernels.gpu import diagonal

        x, y, scale, state, kept = ctx.saved_tensors
        gx, gy, by_scale = diagonal.differentiate_softmax(
            upstream, x, y, scale, state, kept, ctx.setting
        )
        return gx, gy if ctx.needs_input_grad[1] else None, by_scale, None, None


class _Sigmoid(torch.autograd.Function):
    """The sigmoid's value and gradients, all in the forward; the backward only multiplies."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, setting: Any
    ) -> Tensor:
        from twinlens.kernels.gpu import diagonal

        value, *gradients = diagonal.compute_sigmoid(
            x, y, scale, bias, setting, engines.saved_type(x)
        )
        ctx.types = [t.dtype for t in (x, y, scale, bias)]
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *ops.multiply_saved(ctx, upstream), None
