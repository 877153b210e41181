"""Pieces of G on the GPU: kept terms, weighed positives, edges, parts, and their products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder

from tests.kernels.gpu.steps import (
    GRADIENT_ERROR,
    D,
    M,
    N,
    cast,
    compare,
    differentiate,
    list_guard_cases,
    list_pairs,
    make_inputs,
    move,
)
from twinlens.kernels import contrastive, reference
from twinlens.kernels.contrastive import Problem, Side
from twinlens.kernels.gpu import backward, products, tile_table
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.pairs import Pairs

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("tma", [False, True])
@pytest.mark.parametrize("case", ["diagonal", "own keys"])
def test_kept_terms_give_the_same_loss_and_gradients(
    case: str, tma: bool, device: torch.device
) -> None:
    engine = TritonEngine(use_tma=tma, chunk_bytes=64 * 128 * 4)
    inputs = make_inputs(device, m=152, d=72)
    compare(inputs, list_pairs()[case](N, 152), engine, symmetric=case != "own keys", keep=True)


def test_kept_terms_are_rounded_and_the_positives_are_not(device: torch.device) -> None:
    """Solved pairs: each G on the diagonal is 0.99 - 1, which rounded terms would lose."""
    x = torch.randn(N, D, device=device)
    y = x + 0.1 * torch.randn(N, D, device=device)
    inputs = cast({"x": x, "y": y, "scale": torch.tensor(14.3, device=device)}, torch.bfloat16)
    _, kept, _ = differentiate(TritonEngine(), inputs, Pairs(), keep=True)
    _, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    bar = 2 * GRADIENT_ERROR[torch.bfloat16]  # two roundings: of the terms, and of G
    for got, want in zip(kept, wanted.values(), strict=True):
        assert (got.double() - want).norm() <= bar * want.norm()


def test_underflowed_rows_pass_by_the_kept_terms(device: torch.device) -> None:
    x, y = (t.to(device) for t in list_guard_cases()["opposed clusters"]())
    inputs = {"x": x, "y": y, "scale": torch.tensor(100.0, device=device)}
    plain = differentiate(TritonEngine(), inputs, Pairs())
    kept = differentiate(TritonEngine(), inputs, Pairs(), keep=True)
    torch.testing.assert_close(kept[0], plain[0])
    for a, b in zip(kept[1], plain[1], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("case", list_pairs())
def test_the_sigmoids_value_is_the_same_without_a_gradient(case: str, device: torch.device) -> None:
    inputs, pairs = make_inputs(device, bias=True), move(list_pairs()[case](N, M), device)
    pairs = replace(pairs, weigh_positives=case == "labels")
    x, y = Side.measure(inputs["x"]), Side.measure(inputs["y"])
    problem = Problem(x, y, inputs["scale"], pairs)
    alone = TritonEngine().sigmoid_total(problem, inputs["bias"], contrastive.sigmoid_pull(problem))
    value, *_ = differentiate(TritonEngine(), inputs, pairs)
    torch.testing.assert_close(alone / N, value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", ["labels", "supcon"])
def test_weighed_positives_are_exact(case: str, device: torch.device) -> None:
    pairs = replace(move(list_pairs()[case](N, M), device), weigh_positives=True)
    compare(make_inputs(device, bias=True), pairs)


@pytest.mark.parametrize(("n", "m", "d"), [(65, 70, 32), (64, 128, 64), (1, 1, 3), (129, 257, 16)])
@pytest.mark.parametrize("bias", [False, True])
def test_tiles_that_hang_over_an_edge_add_nothing(
    n: int, m: int, d: int, bias: bool, device: torch.device
) -> None:
    compare(make_inputs(device, n, m, d, bias=bias), Pairs())


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_a_tile_may_leave_in_parts(
    parts: int, bias: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type == "cuda":
        pytest.skip("the table of the interpreter")
    parted = replace(tile_table._INTERPRETED, parts=parts)
    monkeypatch.setattr(tile_table, "_INTERPRETED", parted)
    inputs = make_inputs(device, m=152, d=72, bias=bias)
    compare(inputs, Pairs(), TritonEngine(use_tma=True), keep=not bias)


@pytest.mark.parametrize(
    ("bias", "keep", "units"), [(True, False, 3), (False, False, 4), (False, True, 3)]
)
def test_products_of_2nmd_are_as_many_as_promised(
    bias: bool, keep: bool, units: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where the interpreter multiplies, and where the library does."""
    if device.type == "cuda":
        pytest.skip("counted in the interpreter")
    n, m, d = 128, 256, 64  # whole tiles
    done = [0]
    dot = InterpreterBuilder.create_dot

    def count(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        done[0] += 2 * a.data.shape[0] * a.data.shape[1] * b.data.shape[1]
        return dot(self, a, b, *rest)

    def count_library(out: Tensor, a: Tensor, b: Tensor, *, add: bool) -> None:
        done[0] += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        products.multiply(out, a, b, add=add)

    inputs = make_inputs(device, n, m, d, bias=bias)
    monkeypatch.setattr(InterpreterBuilder, "create_dot", count)
    monkeypatch.setattr(backward, "multiply", count_library)
    differentiate(TritonEngine(), inputs, Pairs(), keep=keep)
    assert done[0] == units * 2 * n * m * d
