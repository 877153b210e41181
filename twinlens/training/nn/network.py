"""The network of a run: towers, heads and loss parameters as named parts, and its EMA teacher.

The objective writes its forward pass in terms of parts (`net["image"]`). The whole network is one
module, so that DDP, FSDP, `torch.compile` and checkpoints handle a single object. What must stay
true: a teacher is a deep copy; one that shares memory with its student collapses without a sign in
the loss.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.errors import InputError


class Network(nn.Module):
    """Named parts as one module; calling it runs the objective's forward pass."""

    def __init__(
        self, parts: Mapping[str, nn.Module], run: Callable[[Network, Any], Any] | None = None
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self._run = run
        self._owns = False
        self._still: list[str] = []  # frozen parts, or modules within them

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

    def freeze(self, names: Sequence[str]) -> None:
        """Freeze the parameters whose names begin with one of `names`, dots included.

        Their modules stay in evaluation mode: no dropout, and fixed BatchNorm statistics.
        """
        modules = {name for name, _ in self.parts.named_modules()}
        for name in names:
            found = [own for full, own in self.parts.named_parameters() if _begins(name, full)]
            if not found:
                known = ", ".join(part for part in self.parts if [*self[part].parameters()])
                raise InputError(
                    f"freeze names {name!r}, with which no parameter begins; give parts or more of"
                    f" a name with dots, such as image or image.blocks.0. Parts: {known}",
                    field="freeze",
                )
            for parameter in found:
                parameter.requires_grad_(False)
        self._still += [name for name in names if name in modules]
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise InputError(
                f"freeze={','.join(names)} leaves no parameter to train; freeze less",
                field="freeze",
            )
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Set the mode of all modules but the frozen ones, which stay in evaluation mode."""
        super().train(mode)
        for name in self._still:
            self.parts.get_submodule(name).eval()
        return self

    def count_parameters(self) -> tuple[int, int]:
        """Return the number of trained parameters, and of all parameters."""
        counts = [(own.numel(), own.requires_grad) for own in self.parameters()]
        return sum(count for count, trains in counts if trains), sum(count for count, _ in counts)

    def copy_frozen(self, names: tuple[str, ...]) -> Network:
        """Return a deep copy of the named parts without gradients and without stochastic depth."""
        frozen = Network({name: copy.deepcopy(self.parts[name]) for name in names})
        for module in frozen.modules():
            if hasattr(module, "drop_prob"):  # ours and timm's
                setattr(module, "drop_prob", 0.0)  # noqa: B010 - modules of any class
        frozen.requires_grad_(False)
        return frozen


def _begins(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def hash_weights(module: nn.Module) -> str:
    """Return a hash of a module's parameters and statistics."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class ScalarParameter(nn.Module):
    """A learned number (a logit scale, a bias) as a part of the network."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))  # FSDP shards rows, so it has one row

    def forward(self) -> Tensor:
        """Return the number, as a tensor without dimensions."""
        return self.value[0]
