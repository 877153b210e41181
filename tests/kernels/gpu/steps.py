"""One step of the Triton engine, by parts, and the float64 oracle to which it is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from twinlens.kernels import contrastive, positives, reference
from twinlens.kernels.contrastive import LOG2_E, InputGradient, Problem, Side
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.pairs import Pairs

N, M, D = 75, 150, 70  # no multiple of any tile
# What rounding unit rows, G and the result once costs; the interpreter's bfloat16 cast cuts where
# a GPU rounds, which is four times as much.
GRADIENT_ERROR = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1.2e-2}


def list_pairs() -> dict[str, Callable[[int, int], Pairs]]:
    def labels(n: int, m: int) -> Pairs:
        return Pairs(row_labels=torch.arange(n) % 6, column_labels=torch.arange(m) % 7)

    def supcon(n: int, m: int) -> Pairs:
        both = torch.arange(m) % 9
        return Pairs(offset=2, row_labels=both[2 : 2 + n], column_labels=both, exclude_self=True)

    return {
        "diagonal": lambda n, m: Pairs(offset=3),
        "own keys": lambda n, m: Pairs(own_key_columns=n),
        "labels": labels,
        "supcon": supcon,
    }


def differentiate(
    engine: TritonEngine,
    inputs: dict[str, Tensor],
    pairs: Pairs,
    *,
    symmetric: bool = True,
    keep: bool = False,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return the loss, the gradients, and the columns' lse through the given engine."""
    x, y, bias = Side.measure(inputs["x"]), Side.measure(inputs["y"]), inputs.get("bias")
    scale = inputs["scale"]
    if bias is not None:
        problem = Problem(x, y, scale, pairs)
        pull = contrastive.sigmoid_pull(problem)
        by_x, by_y = (InputGradient(side, scale / len(x), engine) for side in (x, y))
        done = engine.sigmoid_pass(problem, bias, pull, by_x.take)
        by_y.take(slice(0, len(y)), done.by_y)
        value = done.value / len(x)
        return value, [by_x.raw, by_y.raw, by_x.slope / len(x), done.total / len(x)], value
    problem = Problem(x, y, scale * LOG2_E, pairs, symmetric)
    shares, pull = contrastive.compute_weights(problem)
    sums = engine.softmax_sums(problem, shares, keep=keep)
    by_x, by_y = InputGradient(x, scale, engine), InputGradient(y, scale, engine)
    by_y.take(slice(0, len(y)), engine.softmax_gradient(problem, sums, shares, pull, by_x.take))
    attraction = positives.attraction(problem, pull, engine)
    value = contrastive.softmax_loss(sums.lse, shares, attraction, problem.factor)
    return value, [by_x.raw, by_y.raw, by_x.slope], sums.lse.columns


def compare(
    inputs: dict[str, Tensor],
    pairs: Pairs,
    engine: TritonEngine | None = None,
    *,
    keep: bool = False,
    **settings: Any,
) -> None:
    value, gradients, _ = differentiate(
        engine or TritonEngine(), inputs, pairs, keep=keep, **settings
    )
    true, wanted = reference.oracle(
        inputs["x"],
        inputs["y"],
        inputs["scale"],
        pairs,
        bias=inputs.get("bias"),
        kind="sigmoid" if "bias" in inputs else "softmax",
        **settings,
    )
    torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=2e-6)
    bar = GRADIENT_ERROR[inputs["x"].dtype]
    # A lone pair's gradient is zero, and its terms cancel to the last bits of the logit.
    floor = 2e-7 * max(1.0, float(inputs["scale"].abs().max()))
    for got, want in zip(gradients, wanted.values(), strict=True):
        assert (got.double() - want).norm() <= bar * want.norm() + floor


def make_inputs(
    device: torch.device,
    n: int = N,
    m: int = M,
    d: int = D,
    scale: float = 14.3,
    bias: bool = False,
) -> dict[str, Tensor]:
    given = {"x": torch.randn(n, d), "y": torch.randn(m, d), "scale": torch.tensor(scale)}
    if bias:
        given["bias"] = torch.tensor(-3.0)
    return {k: v.to(device) for k, v in given.items()}


def cast(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return inputs | {k: inputs[k].to(dtype) for k in ("x", "y")}


def move(pairs: Pairs, device: torch.device) -> Pairs:
    if pairs.row_labels is None or pairs.column_labels is None:
        return pairs
    rows, columns = pairs.row_labels.to(device), pairs.column_labels.to(device)
    return Pairs(pairs.offset, rows, columns, pairs.exclude_self, pairs.own_key_columns)


def list_guard_cases() -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    def opposed() -> tuple[Tensor, Tensor]:
        u = torch.nn.functional.normalize(torch.randn(1, 256), dim=1)
        noise = 0.2 * torch.randn(2, 80, 256) / 16
        return u + noise[0], -u + noise[1]

    return {
        "random": lambda: (torch.randn(80, 256), torch.randn(80, 256)),
        "anti-aligned": lambda: (torch.randn(80, 4), -torch.randn(80, 4).abs()),
        "opposed clusters": opposed,
    }
