"""Several prefixes in one pass on the CPU: the sum of their losses, whatever the pairs."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from tests.kernels.oracle import SHAPE, list_cases, make_inputs
from tests.kernels.prefixes import compare, differentiate
from twinlens.kernels import chunked, loss, matryoshka
from twinlens.kernels.pairs import Pairs

WIDTHS = (4, 11, 19)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "ROWS", 48)
    monkeypatch.setattr(chunked, "COLUMNS", 23)
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("case", list_cases())
@pytest.mark.parametrize("bias", [False, True])
def test_every_pairing_is_exact(case: str, bias: bool) -> None:
    n, m, d = SHAPE
    inputs = make_inputs(n, m, d, 9.0, torch.float64)
    if bias:
        inputs["bias"] = torch.tensor(-3.0, dtype=torch.float64)
    compare(inputs, WIDTHS, list_cases()[case](n, m), 1e-10)


def test_one_direction_alone_is_exact() -> None:
    inputs = make_inputs(*SHAPE, 9.0, torch.float64)
    compare(inputs, WIDTHS, Pairs(), 1e-10, symmetric=False)


def test_columns_beyond_the_longest_prefix_have_no_gradient() -> None:
    inputs = make_inputs(20, 20, 19, 9.0, torch.float64)
    compare(inputs, (4, 11), Pairs(), 1e-10)
    _, (by_x, by_y, _) = differentiate(inputs, (4, 11), Pairs())
    assert not by_x[:, 11:].any()
    assert not by_y[:, 11:].any()


def test_a_prefix_that_underflowed_is_taken_by_itself() -> None:
    inputs = make_inputs(40, 40, 19, 100.0, torch.float32)
    apart = torch.tensor([1.0, 2.0, -1.0, 0.5])  # all cosines of the prefix are near -1
    inputs["x"][:, :4] = apart + 0.1 * torch.randn(40, 4)
    inputs["y"][:, :4] = -apart + 0.1 * torch.randn(40, 4)
    with mock.patch.object(
        matryoshka._Alone, "add", autospec=True, side_effect=matryoshka._Alone.add
    ) as add:
        compare(inputs, WIDTHS, Pairs(), 2e-5)
    assert add.call_count == 1


def test_a_prefix_may_be_zero_or_a_millionth_of_its_row() -> None:
    inputs = make_inputs(20, 20, 19, 9.0, torch.float64)
    inputs["x"][3, :11] *= 1e-6
    inputs["y"][5, :4] = 0.0
    value, gradients = differentiate(inputs, WIDTHS, Pairs())
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients)
    inputs["y"][5, :4] = 1e-5
    compare(inputs, WIDTHS, Pairs(), 1e-9)


def test_y_may_ask_for_no_gradient() -> None:
    x, y = torch.randn(20, 8, requires_grad=True), torch.randn(20, 8)
    value = loss.matryoshka_loss(x, y, 5.0, (2, 8))
    (alone,) = torch.autograd.grad(value, x)
    asked = y.clone().requires_grad_()
    both = torch.autograd.grad(loss.matryoshka_loss(x, asked, 5.0, (2, 8)), (x, asked))
    torch.testing.assert_close(alone, both[0])
    with torch.no_grad():
        torch.testing.assert_close(loss.matryoshka_loss(x, y, 5.0, (2, 8)), value.detach())


@pytest.mark.slow
def test_a_compiler_sees_the_losses_one_by_one() -> None:
    x, y = torch.randn(2, 12, 8).unbind()
    given = [x.requires_grad_(), y.requires_grad_()]

    def compute(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss.matryoshka_loss(x, y, 7.0, (4, 8))

    compiled = torch.compile(compute, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(compute(x, y), given)
    for a, b in zip(torch.autograd.grad(compiled(x, y), given), want, strict=True):
        torch.testing.assert_close(a, b)
