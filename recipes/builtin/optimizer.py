"""The optimizer: orthogonalised momentum for matrices and convolutions, AdamW for the rest.

Orthogonalising an update (Newton-Schulz, as in Muon) moves every direction of a weight equally; on
these data it needs far fewer images than AdamW for the same loss. Updates are scaled to the size of
AdamW's, so that one learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a quintic that drives singular values to 1
_LIKE_ADAM = 0.2  # root mean square of an AdamW update


class Optimizer:
    """Both optimizers under one step and one learning rate."""

    def __init__(self, model: nn.Module, weight_decay: float = 0.05) -> None:
        named = dict(model.named_parameters())
        self._decay = weight_decay
        self._matrices = {name: p for name, p in named.items() if _is_matrix(name, p)}
        self._momenta = {name: torch.zeros_like(p) for name, p in self._matrices.items()}
        self._rest = {name: p for name, p in named.items() if name not in self._matrices}
        decayed = [p for p in self._rest.values() if p.ndim >= 2]
        others = [p for p in self._rest.values() if p.ndim < 2]
        self._adam = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )

    def clear(self) -> None:
        """Clear the gradients."""
        for parameter in (*self._matrices.values(), *self._rest.values()):
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update every parameter that has a gradient."""
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        for name, parameter in self._matrices.items():
            if parameter.grad is None:
                continue
            momentum = self._momenta[name].mul_(_MOMENTUM).add_(parameter.grad)
            ahead = (parameter.grad + _MOMENTUM * momentum).flatten(1)
            update = orthogonalise(ahead) * (_LIKE_ADAM * math.sqrt(max(ahead.shape)))
            parameter.mul_(1 - lr * self._decay).add_(update.view_as(parameter), alpha=-lr)

    def state(self) -> dict[str, Tensor]:
        """Return all moments by name, for a checkpoint."""
        tensors = {f"momentum.{name}": value for name, value in self._momenta.items()}
        for name, parameter in self._rest.items():
            kept = self._adam.state.get(parameter)
            if kept:
                tensors[f"first.{name}"] = kept["exp_avg"]
                tensors[f"second.{name}"] = kept["exp_avg_sq"]
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Restore the moments that `state` returned after `steps` steps."""
        for name, value in self._momenta.items():
            value.copy_(tensors[f"momentum.{name}"])
        for name, parameter in self._rest.items():
            if f"first.{name}" in tensors:
                self._adam.state[parameter] = {
                    "step": torch.tensor(float(steps)),
                    "exp_avg": tensors[f"first.{name}"].clone(),
                    "exp_avg_sq": tensors[f"second.{name}"].clone(),
                }


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return a matrix with the singular vectors of `matrix` and singular values near 1."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).float()
    return result


def clip(parameters: Iterable[nn.Parameter], largest: float = 5.0) -> None:
    """Clip the norm of all gradients together."""
    torch.nn.utils.clip_grad_norm_(parameters, largest)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """Tell whether a parameter maps one hidden space to another."""
    outer = ("text.tokens.", "text.positions", "image.stem.")
    return parameter.ndim >= 2 and not name.startswith(outer)
