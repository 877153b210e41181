"""BatchNorm over the right rows: those of all ranks (`sync`), of each split (`split`), or local.

Contrastive methods can cheat through batch statistics. What must stay true: which rows share a
statistic is a setting of the run, not a consequence of its number of devices.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from twinlens.errors import InputError


def convert_batchnorm(
    module: nn.Module, mode: Literal["sync", "local", "split"], *, splits: int, world: int
) -> nn.Module:
    """Return the module with its BatchNorm layers in the given mode; parameters are shared."""
    if mode == "local" or (mode == "sync" and world == 1):
        return module
    return _convert(module, mode, splits)


class SyncNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the rows of all ranks, on any device with a process group."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any shape with channels second."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised rows."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        rows = input.to(torch.promote_types(input.dtype, torch.float32))
        count = rows.numel() / rows.shape[1] * dist.get_world_size()
        mean = _sum_over_ranks(rows.sum(axes)) / count
        shape = [1, -1] + [1] * (input.ndim - 2)
        centred = rows - mean.view(shape)
        var = _sum_over_ranks(centred.square().sum(axes)) / count
        self._track(mean, var * count / (count - 1))
        out = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class SplitNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm within each of `splits` parts of the batch: one device simulates several.

    Row i belongs to split i mod `splits`.
    """

    splits: int = 8

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any shape with channels second."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised rows."""
        if not self.training:
            return super().forward(input)
        if len(input) % self.splits:
            raise InputError(
                f"splits is {self.splits}, which does not divide the {len(input)} images of a"
                " forward pass; --set splits=N or batchnorm=local",
                field="splits",
            )
        wide = input.reshape(-1, self.splits * input.shape[1], *input.shape[2:])
        mean, var = self._repeated(self.running_mean), self._repeated(self.running_var)
        weight, bias = self._repeated(self.weight), self._repeated(self.bias)
        momentum = 0.1 if self.momentum is None else self.momentum
        out = nn.functional.batch_norm(wide, mean, var, weight, bias, True, momentum, self.eps)
        self._track(mean, var)
        return out.reshape(input.shape)

    def _repeated(self, values: Tensor | None) -> Tensor | None:
        return None if values is None else values.repeat(self.splits)

    @torch.no_grad()
    def _track(self, mean: Tensor | None, var: Tensor | None) -> None:
        """Track the mean of the splits' statistics."""
        if mean is None or var is None or self.running_mean is None or self.running_var is None:
            return
        self.running_mean.copy_(mean.view(self.splits, -1).mean(dim=0))
        self.running_var.copy_(var.view(self.splits, -1).mean(dim=0))


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_ranks(values: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(values)
    return total


def _convert(module: nn.Module, mode: str, splits: int) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _convert(child, mode, splits))
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module
    if mode == "sync" and next(module.buffers()).is_cuda:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call, unused-ignore]
        return converted
    fresh = SplitNorm(1) if mode == "split" else SyncNorm(1)
    fresh.__dict__.update(module.__dict__)
    if isinstance(fresh, SplitNorm):
        fresh.splits = splits
    return fresh
