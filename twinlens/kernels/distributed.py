"""The losses with rows split over processes: each computes its rows against all columns.

One side is gathered. Every process uses the same constant shift, so the columns' sums merge by one
sum of N numbers, without an exchange of maxima. Gradients of the gathered side are summed and
returned to their owners. What must stay true: all ranks have equally many rows and need the same
gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from twinlens.errors import InputError
from twinlens.kernels import contrastive, engines, positives
from twinlens.kernels.contrastive import (
    LOG2_E,
    InputGradient,
    Memory,
    PerSide,
    Problem,
    Side,
    Sums,
)
from twinlens.kernels.pairs import Pairs


def sharded_contrastive_loss(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    *,
    labels: Tensor | None = None,
    bias: Tensor | None = None,
    kind: Literal["softmax", "sigmoid"] = "softmax",
    symmetric: bool = True,
    combine: Literal["mean", "sum"] = "mean",
    group: dist.ProcessGroup | None = None,
    engine: str = "auto",
    memory: Memory = "balanced",
) -> Tensor:
    """Return the loss over all ranks' rows, the same number on each rank.

    x and y (n, d) are this rank's rows, which are pairs. With `labels` (n,) y must hold the same
    items as x (SupCon, NT-Xent): a row is not compared with itself.

    `combine` is how the caller will merge the ranks' parameter gradients. DistributedDataParallel
    takes the mean; the gradients by x and y are then multiplied by the world size, so that the mean
    is the single-process gradient. Those by scale and bias are complete on every rank either way.
    `memory` is as in `loss.contrastive_loss`, for this rank's rows.
    """
    engines.check_memory(memory)
    if len(x) != len(y):
        raise InputError(
            f"this rank has {len(x)} rows of x and {len(y)} of y; they must be pairs",
            field="y",
        )
    shard = Shard(group)
    pairs = shard.pairs(len(x), labels)
    boost = float(shard.size) if combine == "mean" else 1.0
    given = [t for t in (x, y, scale, bias) if t is not None]
    differentiates = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    settings = _Settings(shard, pairs, symmetric, boost, engine, memory, differentiates)
    if kind == "sigmoid":
        if bias is None:
            raise InputError("the sigmoid loss needs a bias", field="bias")
        value: Tensor = _Sigmoid.apply(x, y, scale, bias, settings)
    else:
        value = _Softmax.apply(x, y, scale, settings)
    return value


class Shard:
    """This process's place in a group, and the communication that the losses need."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def pairs(self, n: int, labels: Tensor | None) -> Pairs:
        """Return the pairs of this rank's rows with all columns."""
        if labels is None:
            return Pairs(offset=self.rank * n)
        return Pairs(self.rank * n, labels, self.gather(labels), exclude_self=True)

    def gather(self, local: Tensor) -> Tensor:
        """Return all ranks' tensors, concatenated."""
        out = local.new_empty(self.size * len(local), *local.shape[1:])
        dist.all_gather_into_tensor(out, local.contiguous(), group=self.group)
        return out

    def scatter_sum(self, whole: Tensor) -> Tensor:
        """Return this rank's part of the sum of all ranks' tensors."""
        n = len(whole) // self.size
        if dist.get_backend(self.group) == "nccl":
            out = whole.new_empty(n, *whole.shape[1:])
            dist.reduce_scatter_tensor(out, whole, group=self.group)
            return out
        return self.sum(whole)[self.rank * n : (self.rank + 1) * n]

    def sum(self, partial: Tensor) -> Tensor:
        """Return the sum of all ranks' tensors."""
        out = partial.clone()
        dist.all_reduce(out, group=self.group)
        return out

    def logaddexp2(self, partial: Tensor) -> Tensor:
        """Return log2 of the sum of 2 to the power of all ranks' tensors."""
        parts = self.gather(partial[None])
        return torch.logsumexp(parts * math.log(2), 0) * LOG2_E


@dataclass(frozen=True)
class _Settings:
    shard: Shard
    pairs: Pairs
    symmetric: bool
    boost: float
    engine: str
    memory: Memory
    differentiates: bool

    def pose(self, x: Tensor, y: Tensor, scale: Tensor, *, bits: bool, needs_y: bool) -> Problem:
        """Return this rank's rows against all columns."""
        a, b = Side.measure(x), Side.measure(self.shard.gather(y))
        factor = scale.to(a.inverse_norm.dtype) * (LOG2_E if bits else 1.0)
        return Problem(a, b, factor, self.pairs, self.symmetric, needs_y, self.shard, self.memory)

    def keeps_terms(self, problem: Problem) -> bool:
        """Tell whether the forward keeps its terms for the backward."""
        n, m, size = len(problem.x), len(problem.y), problem.x.raw.element_size()
        fits = contrastive.keeps_terms(self.memory, n, m, size, self.pairs)
        return self.differentiates and fits

    def gradient_of_y(self, y: Tensor, by_x: InputGradient, dy: Tensor) -> Tensor:
        """Sum the ranks' gradients of this rank's own columns, and apply the norm."""
        by_y = InputGradient(Side.measure(y), by_x.factor, by_x.engine, by_x.raw.dtype)
        own = self.shard.scatter_sum(dy)
        by_y.take(slice(0, len(own)), own)
        return by_y.raw


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: Tensor, settings: _Settings) -> Tensor:
        problem = settings.pose(x, y, scale, bits=True, needs_y=False)
        shares, pull = contrastive.compute_weights(problem)
        engine = engines.choose_engine(settings.engine, x)
        sums = engine.softmax_sums(problem, shares, keep=settings.keeps_terms(problem))
        lse = sums.lse
        ctx.save_for_backward(x, y, scale, lse.rows, lse.columns, sums.kept)
        ctx.settings = settings
        # Every rank knows all columns' lse; each adds its own ones, once.
        own = slice(settings.pairs.offset, settings.pairs.offset + len(x))
        mine = PerSide(shares.rows, shares.columns[own])
        few = PerSide(lse.rows, lse.columns[own])
        attraction = positives.attraction(problem, pull, engine)
        return settings.shard.sum(contrastive.softmax_loss(few, mine, attraction, problem.factor))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, row_lse, column_lse, kept = ctx.saved_tensors
        settings: _Settings = ctx.settings
        needs_y = ctx.needs_input_grad[1]
        problem = settings.pose(x, y, scale, bits=True, needs_y=needs_y)
        shares, pull = contrastive.compute_weights(problem)
        factor = scale.to(problem.factor.dtype) * upstream * settings.boost
        engine = engines.choose_engine(settings.engine, x)
        by_x = InputGradient(problem.x, factor, engine)
        sums = Sums(PerSide(row_lse, column_lse), kept)
        dy = engine.softmax_gradient(problem, sums, shares, pull, by_x.take)
        gy = settings.gradient_of_y(y, by_x, dy) if needs_y else None
        gscale = settings.shard.sum(by_x.slope) * upstream
        return by_x.raw, gy, gscale.to(scale.dtype), None


class _Sigmoid(torch.autograd.Function):
    """Value and gradients in the forward's one pass; the backward only multiplies."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, settings: _Settings
    ) -> Tensor:
        needs_y = settings.differentiates and y.requires_grad
        problem = settings.pose(x, y, scale, bits=False, needs_y=needs_y)
        wide, count, shard = problem.factor.dtype, len(problem.y), settings.shard
        engine, pull = engines.choose_engine(settings.engine, x), contrastive.sigmoid_pull(problem)
        if not settings.differentiates:
            return shard.sum(engine.sigmoid_total(problem, bias.to(wide), pull)) / count
        factor = scale.to(wide) / count * settings.boost
        by_x = InputGradient(problem.x, factor, engine, engines.saved_type(x))
        done = engine.sigmoid_pass(problem, bias.to(wide), pull, by_x.take)
        gy = settings.gradient_of_y(y, by_x, done.by_y) if needs_y else None
        gscale, gbias = (shard.sum(v) / count for v in (by_x.slope, done.total))
        ctx.save_for_backward(by_x.raw, gy, gscale, gbias)
        ctx.types = [t.dtype for t in (x, y, scale, bias)]
        return shard.sum(done.value) / count

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [
            None if g is None else (upstream * g).to(dtype)
            for g, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return *gradients, None
