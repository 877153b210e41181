"""Ranks of a distributed run, and a gather through which gradients flow.

Gradients are averaged over ranks, as in DDP. Every rank computes a coupled loss on the same
gathered rows; the gather returns each rank the gradient of its own rows times the number of ranks.
What must stay true: the average over ranks is then the gradient of the one global loss.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process as one of `world` ranks."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this rank writes files and output."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """Return all ranks' rows, in rank order; the gradient flows to this rank's own rows."""
        if self.world == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over ranks, without gradient."""
        if self.world == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def wait(self) -> None:
        """Wait until every rank has arrived."""
        if self.world > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.count = ranks, len(rows)
        parts = [torch.empty_like(rows) for _ in range(ranks.world)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        start = ctx.ranks.rank * ctx.count
        return grads[0][start : start + ctx.count] * ctx.ranks.world, None


def join_ranks(device: torch.device) -> Ranks:
    """Join the process group that `torchrun` set up, or return a single rank."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))


def wrap_ddp(module: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Return the module under DDP: gradients are averaged, buffers are not synchronised.

    SyncBN keeps statistics equal by itself. The option's name depends on torch's version.
    """
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {option: False}
    if device.type == "cuda":
        options["device_ids"] = [device.index]
    return DistributedDataParallel(module, **options)


def leave_ranks(ranks: Ranks) -> None:
    """Leave the process group together: to its peers, an early exit looks like a crash."""
    if ranks.world > 1 and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
