"""The Triton losses against the float64 oracle: ragged shapes, unwritten memory poisoned."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.gpu.steps import (
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
from twinlens.kernels.contrastive import LOG2_E, Problem, Side
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.pairs import Pairs

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("case", list_pairs())
def test_every_pairing_of_the_softmax_is_exact(case: str, device: torch.device) -> None:
    pairs = move(list_pairs()[case](N, M), device)
    compare(make_inputs(device), pairs, symmetric=case != "own keys")


@pytest.mark.parametrize("case", list_pairs())
def test_every_pairing_of_the_sigmoid_is_exact(case: str, device: torch.device) -> None:
    compare(make_inputs(device, bias=True), move(list_pairs()[case](N, M), device))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_half_precision_loses_only_the_rounding_of_g(
    dtype: torch.dtype, bias: bool, device: torch.device
) -> None:
    compare(cast(make_inputs(device, bias=bias), dtype), Pairs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_the_register_kernels_equal_the_chunks(
    dtype: torch.dtype, bias: bool, device: torch.device
) -> None:
    engine = TritonEngine(chunk_bytes=0)
    pairs = move(list_pairs()["supcon"](N, M), device)
    compare(cast(make_inputs(device, bias=bias), dtype), pairs, engine)


@pytest.mark.parametrize("bias", [False, True])
def test_the_tensor_memory_accelerator_changes_nothing(bias: bool, device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("this GPU has no tensor memory accelerator")
    compare(make_inputs(device, d=72, bias=bias), Pairs(), TritonEngine(use_tma=True))


def test_a_small_chunk_is_as_exact_as_one(device: torch.device) -> None:
    compare(make_inputs(device, n=150), Pairs(), TritonEngine(chunk_bytes=64 * 128 * 4))


@pytest.mark.parametrize("scale", [1.0, 70.0, 100.0])
def test_every_scale_is_exact(scale: float, device: torch.device) -> None:
    inputs = make_inputs(device, scale=scale)
    value, gradients, _ = differentiate(TritonEngine(), inputs, Pairs())
    true, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=2e-6)
    for got, want in zip(gradients, wanted.values(), strict=True):
        assert (got.double() - want).norm() / want.norm() <= 6e-5


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 3), (1, 5, 16), (2, 130, 1)])
def test_the_smallest_shapes_work(n: int, m: int, d: int, device: torch.device) -> None:
    compare(make_inputs(device, n, m, d), Pairs(), symmetric=True)


def test_zero_rows_and_duplicates_are_finite_and_right(device: torch.device) -> None:
    inputs = make_inputs(device, scale=50.0)
    inputs["x"][4] = 0.0
    inputs["y"][10:20] = inputs["y"][0:10]
    value, gradients, _ = differentiate(TritonEngine(), inputs, Pairs())
    true, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=2e-6)
    others = [i for i in range(N) if i != 4]  # the zero row's gradient is 1e12 times too large
    assert gradients[0].isfinite().all()
    error = (gradients[0].double() - wanted["x"])[others].norm() / wanted["x"][others].norm()
    assert error <= 1e-5


@pytest.mark.parametrize("case", list_guard_cases())
@pytest.mark.parametrize("chunk_bytes", [1 << 20, 0])
def test_underflowed_rows_are_done_again_by_the_exact_kernel(
    case: str, chunk_bytes: int, device: torch.device
) -> None:
    x, y = (t.to(device) for t in list_guard_cases()[case]())
    inputs = {"x": x, "y": y, "scale": torch.tensor(100.0, device=device)}
    value, gradients, _ = differentiate(TritonEngine(chunk_bytes=chunk_bytes), inputs, Pairs())
    true, wanted = reference.oracle(x, y, inputs["scale"])
    torch.testing.assert_close(value.double(), true, rtol=1e-6, atol=1e-6)
    given = [t.clone().requires_grad_() for t in (x, y, inputs["scale"])]
    loss = reference.contrastive_loss(given[0], given[1], given[2])
    plain = torch.autograd.grad(loss, given)
    for got, torch_got, want in zip(gradients[:2], plain, list(wanted.values())[:2], strict=False):
        # Nearly equal embeddings lose digits in any float32: no more than thrice torch's own loss.
        assert (got - want).norm() <= 3 * (torch_got - want).norm() + 1e-5 * want.norm()


def test_a_plain_constant_shift_would_have_been_nan(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    """The guard earns its place: without lift and exact kernel the opposed clusters are lost."""
    x, y = (t.to(device) for t in list_guard_cases()["opposed clusters"]())
    monkeypatch.setattr(contrastive, "HEADROOM", 0.0)
    monkeypatch.setattr(contrastive, "FLOOR", -torch.inf)
    s2 = torch.tensor(100.0 * LOG2_E, device=device)
    problem = Problem(Side.measure(x), Side.measure(y), s2, Pairs(), symmetric=True)
    shares, _ = contrastive.compute_weights(problem)
    assert not TritonEngine().softmax_sums(problem, shares).lse.rows.isfinite().any()


def test_equal_inputs_give_equal_bits(device: torch.device) -> None:
    inputs = cast(make_inputs(device), torch.float16)
    one = differentiate(TritonEngine(), inputs, Pairs())
    two = differentiate(TritonEngine(), inputs, Pairs())
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[2], two[2])
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))


def test_the_operator_reaches_triton_by_name(device: torch.device) -> None:
    from twinlens.kernels import loss

    x, y = torch.randn(40, 16, device=device), torch.randn(40, 16, device=device)
    one = loss.contrastive_loss(x, y, 9.0, engine="triton")
    two = loss.contrastive_loss(x, y, 9.0, engine="chunked")
    torch.testing.assert_close(one, two)
