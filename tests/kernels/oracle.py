"""Inputs of every pairing, and the float64 oracle to which a loss of them is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from twinlens.kernels import loss, reference
from twinlens.kernels.pairs import Pairs

Kind = Literal["softmax", "sigmoid"]
SHAPE = (37, 70, 19)  # no multiple of any tile


def draw_labels(length: int) -> Tensor:
    """Return labels of nine classes."""
    return torch.randint(0, 9, (length,))


def list_cases() -> dict[str, Callable[[int, int], Pairs]]:
    """Return every kind of pairs, made for n rows and m columns."""
    return {
        "diagonal": lambda n, m: Pairs(),
        "shifted diagonal": lambda n, m: Pairs(offset=m - n),
        "own keys before a queue": lambda n, m: Pairs(own_key_columns=n),
        "labels": lambda n, m: Pairs(row_labels=draw_labels(n), column_labels=draw_labels(m)),
        "labels without self": lambda n, m: leave_out_self(n, m),
    }


def leave_out_self(n: int, m: int) -> Pairs:
    labels = draw_labels(m)
    return Pairs(offset=3, row_labels=labels[3 : 3 + n], column_labels=labels, exclude_self=True)


def differentiate(
    inputs: dict[str, Tensor], pairs: Pairs, **settings: Any
) -> tuple[Tensor, list[Tensor]]:
    given = {k: v.detach().clone().requires_grad_() for k, v in inputs.items()}
    bias = given.get("bias")
    value = loss.contrastive_loss(
        given["x"], given["y"], given["scale"], pairs, bias=bias, **settings
    )
    return value.detach(), list(torch.autograd.grad(value, list(given.values())))


def compare(inputs: dict[str, Tensor], pairs: Pairs, rtol: float, **settings: Any) -> None:
    value, gradients = differentiate(inputs, pairs, **settings)
    true, true_gradients = reference.oracle(
        inputs["x"], inputs["y"], inputs["scale"], pairs, bias=inputs.get("bias"), **settings
    )
    torch.testing.assert_close(value.double(), true, rtol=rtol, atol=rtol)
    for got, want in zip(gradients, true_gradients.values(), strict=True):
        error = (got.double() - want).norm() / want.norm().clamp_min(1e-6)
        assert error <= 10 * rtol, error


def make_inputs(n: int, m: int, d: int, scale: float, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "x": torch.randn(n, d, dtype=dtype),
        "y": torch.randn(m, d, dtype=dtype),
        "scale": torch.tensor(scale, dtype=dtype),
    }
