"""The network of a run: towers, heads and loss parameters as named parts, and its EMA teacher.

The objective writes its forward pass in terms of parts (`net["image"]`); the whole network is one
module, so that DDP, FSDP, `torch.compile` and checkpoints see a single thing. A teacher is always
a deep copy: one that shares memory with its student collapses without a sign in the loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Named parts as one module; calling it runs the objective's forward pass."""

    def __init__(
        self, parts: Mapping[str, nn.Module], run: Callable[[Network, Any], Any] | None = None
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self._run = run
        self._owns = False

    def __getitem__(self, name: str) -> nn.Module:
        return self.parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def forward(self, batch: Any) -> Any:
        """Run the objective's pass over `batch`."""
        assert self._run is not None, "this network has no pass of its own. This is a bug"
        found = self._run(self, batch)
        if not self._owns:
            return found
        return tuple({name: value.clone() for name, value in rows.items()} for rows in found)

    def own_results(self) -> None:
        """Return copies from now on: FSDP hooks results, and a view may lose its hook."""
        self._owns = True

    def copy_frozen(self, names: tuple[str, ...]) -> Network:
        """Return a deep copy of the named parts that takes no gradient and drops no branch."""
        frozen = Network({name: copy.deepcopy(self.parts[name]) for name in names})
        for module in frozen.modules():
            if hasattr(module, "drop_prob"):  # ours and timm's
                setattr(module, "drop_prob", 0.0)  # noqa: B010 - modules of any class
        frozen.requires_grad_(False)
        return frozen


class ScalarParameter(nn.Module):
    """A learned number (a logit scale, a bias) as a part of the network."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))  # FSDP shards rows, so there is one

    def forward(self) -> Tensor:
        """Return the number, as a tensor without dimensions."""
        return self.value[0]
