"""Several prefixes in one pass of the Triton kernels, against float64; memory poisoned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder

from tests.kernels.gpu.steps import GRADIENT_ERROR, cast, list_pairs, make_inputs, move
from tests.kernels.prefixes import compare, differentiate
from twinlens.kernels.gpu import prefixes, products
from twinlens.kernels.pairs import Pairs

pytestmark = pytest.mark.usefixtures("poisoned")
N, M, D = 75, 150, 64


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("case", list_pairs())
def test_every_pairing_of_the_softmax_is_exact(case: str, device: torch.device) -> None:
    pairs = move(list_pairs()[case](N, M), device)
    inputs, symmetric = make_inputs(device, N, M, D), case != "own keys"
    compare(inputs, (16, 32, D), pairs, 2e-6, engine="triton", symmetric=symmetric)


@pytest.mark.parametrize("case", ["diagonal", "supcon"])
def test_pairings_of_the_sigmoid_are_exact(case: str, device: torch.device) -> None:
    pairs = move(list_pairs()[case](N, M), device)
    inputs = make_inputs(device, N, M, D, bias=True)
    compare(inputs, (16, 32, D), pairs, 2e-6, engine="triton")


@pytest.mark.parametrize("widths", [(5, 33, 70), (70,), (1, 2)])
def test_widths_need_not_fit_the_tiles(widths: tuple[int, ...], device: torch.device) -> None:
    compare(make_inputs(device, 40, 40, 70), widths, Pairs(), 2e-6, engine="triton")


def test_bfloat16_loses_only_the_rounding_of_g(device: torch.device) -> None:
    inputs = cast(make_inputs(device, N, M, D), torch.bfloat16)
    # A prefix's G is rounded once by itself and once with those of the longer ones.
    error = 1.5 * GRADIENT_ERROR[torch.bfloat16]
    compare(inputs, (16, 32, D), Pairs(), error, engine="triton")


def test_float16_goes_prefix_by_prefix(device: torch.device) -> None:
    inputs = cast(make_inputs(device, N, M, D), torch.float16)
    inputs["x"][3, :16] *= 1e-3  # one pass would multiply its G by a thousand
    error = 3 * GRADIENT_ERROR[torch.float16]
    compare(inputs, (16, D), Pairs(), error, engine="triton")


def test_small_pieces_are_as_exact_as_one(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "TALL", 64)
    monkeypatch.setitem(products.CHUNK_BYTES, "balanced", 3 * 64 * 64 * 4)
    for bias in (False, True):
        inputs = make_inputs(device, 150, 150, D, bias=bias)
        compare(inputs, (16, 32, D), Pairs(), 2e-6, engine="triton")


def test_an_underflowed_prefix_spoils_no_other(device: torch.device) -> None:
    inputs = make_inputs(device, 80, 80, D, scale=100.0)
    inputs["y"][:, :4] = -3.0 * inputs["x"][:, :4]
    compare(inputs, (4, 32, D), Pairs(), 2e-5, engine="triton")


def test_equal_inputs_give_equal_bits(device: torch.device) -> None:
    inputs = cast(make_inputs(device, N, N, D), torch.bfloat16)
    one, two = (differentiate(inputs, (16, D), Pairs(), engine="triton") for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert all(map(torch.equal, one[1], two[1]))


@pytest.mark.parametrize(("bias", "units"), [(True, 3), (False, 4)])
def test_products_are_those_of_the_longest_prefix_alone(
    bias: bool, units: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
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
    monkeypatch.setattr(prefixes, "multiply", count_library)
    kind = "sigmoid" if bias else "softmax"
    differentiate(inputs, (16, 32, d), Pairs(), engine="triton", kind=kind)
    assert done[0] == units * 2 * n * m * d
