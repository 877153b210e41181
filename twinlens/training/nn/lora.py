"""LoRA: frozen weights of a tower's blocks plus a trained product of two low-rank matrices.

Hu et al. 2021, https://arxiv.org/abs/2106.09685: W + (alpha / rank) B A, where A is random and B
starts at zero, so that a run starts as its source. Every linear layer within the blocks is adapted,
attention's too. What must stay true: merged weights compute what the adapted ones do, and a
checkpoint stores W, A and B separately.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from twinlens.errors import InputError
from twinlens.training.encoders.blocks import BLOCK
from twinlens.training.seeds import generator

_KEY = re.compile(r"^(.*)\.parametrizations\.(\w+)\.original$")


class LowRank(nn.Module):
    """Adds `scale` times a product of rank `rank` to a weight (out, in)."""

    def __init__(self, weight: Tensor, rank: int, scale: float, draws: torch.Generator) -> None:
        super().__init__()
        bound = weight.shape[1] ** -0.5
        narrow = torch.rand(rank, weight.shape[1], generator=draws) * 2 - 1
        self.down = nn.Parameter(bound * narrow)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight."""
        return weight + self.scale * (self.up @ self.down)


def add_adapters(part: str, tower: nn.Module, rank: int, alpha: float, seed: int) -> None:
    """Freeze a tower, and adapt the linear layers of its blocks that `freeze` does not name."""
    found = [
        (module, name)
        for place, module in tower.named_modules()
        if BLOCK.search(f"{place}.")
        for name in _linear_weights(module)
        if module.get_parameter(name).requires_grad
    ]
    if not found:
        raise InputError(
            f"lora is {rank}, and the {part} tower has no blocks with linear layers that may train;"
            " --set lora=0, or a transformer's encoder",
            field="lora",
        )
    tower.requires_grad_(False)
    for number, (module, name) in enumerate(found):
        weight = module.get_parameter(name)
        draws = generator(seed, 83, sum(part.encode()), number)
        adapter = LowRank(weight, min(rank, *weight.shape), alpha / rank, draws)
        parametrize.register_parametrization(module, name, adapter)


def merge_adapters(weights: Mapping[str, Tensor], rank: int, alpha: float) -> dict[str, Tensor]:
    """Return the weights of a checkpoint with its adapters merged, under their original names."""
    found = {name: value for name, value in weights.items() if ".parametrizations." not in name}
    for name, weight in weights.items():
        key = _KEY.match(name)
        if key is not None:
            base = name.removesuffix("original") + "0."
            found[f"{key[1]}.{key[2]}"] = weight + alpha / rank * (
                weights[f"{base}up"] @ weights[f"{base}down"]
            )
    return found


def _linear_weights(module: nn.Module) -> tuple[str, ...]:
    """Return the names of a module's own linear weights."""
    if isinstance(module, nn.Linear):
        return ("weight",)
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        return ("in_proj_weight",)
    return ()
