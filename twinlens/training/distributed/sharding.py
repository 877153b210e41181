"""FSDP2: each rank holds a shard of every parameter, its gradient and its optimizer state.

`--set parallel=fsdp` under `torchrun`. Parameters are gathered block by block for each pass, and
for checkpoints, so that a run on disk does not depend on sharding. Buffers and the EMA teacher are
whole on every rank. torch's sharding takes seconds to import and is imported on use.

What must stay true: outside this module no code needs to know whether a tensor is a shard.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from twinlens.errors import InputError
from twinlens.training.config import TrainingSettings
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.nn.network import Network

STACKS = ("blocks", "stages", "resblocks")  # containers whose members run one after another


def is_sharded(settings: TrainingSettings, ranks: Ranks) -> bool:
    """Tell whether the run shards its parameters; refuse settings that conflict."""
    if settings.parallel != "fsdp" or ranks.world == 1:
        return False
    if settings.compile:
        raise InputError(
            "compile=true does not go with parallel=fsdp here; set one of them only",
            field="compile",
        )
    return True


def shard_network(net: Network, device: torch.device, ranks: Ranks) -> None:
    """Replace the parameters of the network by this rank's shards, in place."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net.to(memory_format=torch.contiguous_format)
    mesh = init_device_mesh(device.type, (ranks.world,))
    stacks = [module for name, module in net.parts.named_modules() if _is_stack(name)]
    for stack in stacks:
        for member in stack.children():
            if any(True for _ in member.parameters()):
                fully_shard(member, mesh=mesh)
    net.own_results()
    fully_shard(net, mesh=mesh)


def set_synchronised(module: nn.Module, last: bool) -> None:
    """Reduce gradients over ranks in the last pass only."""
    switch: Any = getattr(module, "set_requires_gradient_sync", None)
    if switch is not None:
        switch(last)


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor gathered from all ranks, which must all call this; others unchanged."""
    found: Tensor = tensor.full_tensor() if _is_shard(tensor) else tensor  # type: ignore[attr-defined]
    return found


def local(tensor: Tensor) -> Tensor:
    """Return this rank's rows of a parameter, to modify in place; all rows if not sharded."""
    found: Tensor = tensor.to_local() if _is_shard(tensor) else tensor  # type: ignore[attr-defined]
    return found


def placed_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor with the parameter's device, sharding and memory layout.

    Mixed layouts round differently, so the layout matters for identical bytes.
    """
    if not _is_shard(parameter):
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    value = value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    shard: Any = parameter
    return distribute_tensor(value, shard.device_mesh, shard.placements, src_data_rank=None)


def _is_shard(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _is_stack(name: str) -> bool:
    return name.rpartition(".")[2] in STACKS
