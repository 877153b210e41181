"""Several prefixes at once, and the float64 sum of their losses to which they are held."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from twinlens.kernels import loss, reference
from twinlens.kernels.pairs import Pairs

WEIGHTS = (0.5, 1.0, 2.0)


def differentiate(
    inputs: dict[str, Tensor], widths: tuple[int, ...], pairs: Pairs, **settings: Any
) -> tuple[Tensor, list[Tensor]]:
    """Return the weighted loss and its gradients, times three: what comes from above counts."""
    given = {k: v.detach().clone().requires_grad_() for k, v in inputs.items()}
    value = loss.matryoshka_loss(
        given["x"], given["y"], given["scale"], widths, weights=WEIGHTS[: len(widths)],
        pairs=pairs, bias=given.get("bias"), **settings,
    )  # fmt: skip
    gradients = torch.autograd.grad(value * 3.0, list(given.values()))
    return value.detach(), [g / 3.0 for g in gradients]


def find_truth(
    inputs: dict[str, Tensor], widths: tuple[int, ...], pairs: Pairs, **settings: Any
) -> tuple[Tensor, list[Tensor]]:
    """Return the same in float64, prefix by prefix, by the specification."""
    given = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    settings.pop("engine", None)
    terms = [
        weight
        * reference.contrastive_loss(
            given["x"][:, :width], given["y"][:, :width], given["scale"], pairs,
            bias=given.get("bias"), **settings,
        )
        for width, weight in zip(widths, WEIGHTS, strict=False)
    ]  # fmt: skip
    value = torch.stack(terms).sum()
    return value.detach(), list(torch.autograd.grad(value, list(given.values())))


def compare(
    inputs: dict[str, Tensor], widths: tuple[int, ...], pairs: Pairs, error: float, **settings: Any
) -> None:
    """Hold value and gradients to the truth, each to a relative error."""
    settings["kind"] = "sigmoid" if "bias" in inputs else "softmax"
    value, gradients = differentiate(inputs, widths, pairs, **settings)
    true, wanted = find_truth(inputs, widths, pairs, **settings)
    torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=2e-6)
    for got, want in zip(gradients, wanted, strict=True):
        assert (got.double() - want).norm() <= error * want.norm().clamp_min(1e-6)
