"""The Triton losses against the float64 oracle: ragged shapes, unwritten memory poisoned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder

from twinlens.kernels import contrastive, positives, reference
from twinlens.kernels.contrastive import LOG2_E, InputGradient, Problem, Side
from twinlens.kernels.gpu import backward, products, tile_table
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.pairs import Pairs

pytestmark = pytest.mark.usefixtures("poisoned")
N, M, D = 75, 150, 70  # no multiple of any tile
# What rounding unit rows, G and the result once costs; the interpreter's bfloat16 cast cuts where
# a GPU rounds, which is four times as much.
GRADIENT_ERROR = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1.2e-2}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _pairs() -> dict[str, Callable[[int, int], Pairs]]:
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


def _differentiate(
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


def _compare(
    inputs: dict[str, Tensor],
    pairs: Pairs,
    engine: TritonEngine | None = None,
    *,
    keep: bool = False,
    **settings: Any,
) -> None:
    value, gradients, _ = _differentiate(
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
    for got, want in zip(gradients, wanted.values(), strict=True):
        assert (got.double() - want).norm() <= bar * want.norm() + 2e-7


def _inputs(
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


def _as(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return inputs | {k: inputs[k].to(dtype) for k in ("x", "y")}


def _to(pairs: Pairs, device: torch.device) -> Pairs:
    if pairs.row_labels is None or pairs.column_labels is None:
        return pairs
    rows, columns = pairs.row_labels.to(device), pairs.column_labels.to(device)
    return Pairs(pairs.offset, rows, columns, pairs.exclude_self, pairs.own_key_columns)


@pytest.mark.parametrize("case", _pairs())
def test_every_pairing_of_the_softmax_is_exact(case: str, device: torch.device) -> None:
    pairs = _to(_pairs()[case](N, M), device)
    _compare(_inputs(device), pairs, symmetric=case != "own keys")


@pytest.mark.parametrize("case", _pairs())
def test_every_pairing_of_the_sigmoid_is_exact(case: str, device: torch.device) -> None:
    _compare(_inputs(device, bias=True), _to(_pairs()[case](N, M), device))


@pytest.mark.parametrize("tma", [False, True])
@pytest.mark.parametrize("case", ["diagonal", "own keys"])
def test_kept_terms_give_the_same_loss_and_gradients(
    case: str, tma: bool, device: torch.device
) -> None:
    engine = TritonEngine(use_tma=tma, chunk_bytes=64 * 128 * 4)
    inputs = _inputs(device, m=152, d=72)
    _compare(inputs, _pairs()[case](N, 152), engine, symmetric=case != "own keys", keep=True)


def test_kept_terms_are_rounded_and_the_positives_are_not(device: torch.device) -> None:
    """Solved pairs: each G on the diagonal is 0.99 - 1, which rounded terms would lose."""
    x = torch.randn(N, D, device=device)
    y = x + 0.1 * torch.randn(N, D, device=device)
    inputs = _as({"x": x, "y": y, "scale": torch.tensor(14.3, device=device)}, torch.bfloat16)
    _, kept, _ = _differentiate(TritonEngine(), inputs, Pairs(), keep=True)
    _, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    bar = 2 * GRADIENT_ERROR[torch.bfloat16]  # two roundings: of the terms, and of G
    for got, want in zip(kept, wanted.values(), strict=True):
        assert (got.double() - want).norm() <= bar * want.norm()


def test_underflowed_rows_pass_by_the_kept_terms(device: torch.device) -> None:
    x, y = (t.to(device) for t in _guard_cases()["opposed clusters"]())
    inputs = {"x": x, "y": y, "scale": torch.tensor(100.0, device=device)}
    plain = _differentiate(TritonEngine(), inputs, Pairs())
    kept = _differentiate(TritonEngine(), inputs, Pairs(), keep=True)
    torch.testing.assert_close(kept[0], plain[0])
    for a, b in zip(kept[1], plain[1], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("case", _pairs())
def test_the_sigmoids_value_is_the_same_without_a_gradient(case: str, device: torch.device) -> None:
    inputs, pairs = _inputs(device, bias=True), _to(_pairs()[case](N, M), device)
    pairs = replace(pairs, weigh_positives=case == "labels")
    x, y = Side.measure(inputs["x"]), Side.measure(inputs["y"])
    problem = Problem(x, y, inputs["scale"], pairs)
    alone = TritonEngine().sigmoid_total(problem, inputs["bias"], contrastive.sigmoid_pull(problem))
    value, *_ = _differentiate(TritonEngine(), inputs, pairs)
    torch.testing.assert_close(alone / N, value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", ["labels", "supcon"])
def test_weighed_positives_are_exact(case: str, device: torch.device) -> None:
    pairs = replace(_to(_pairs()[case](N, M), device), weigh_positives=True)
    _compare(_inputs(device, bias=True), pairs)


@pytest.mark.parametrize(("n", "m", "d"), [(65, 70, 32), (64, 128, 64), (1, 1, 3), (129, 257, 16)])
@pytest.mark.parametrize("bias", [False, True])
def test_tiles_that_hang_over_an_edge_add_nothing(
    n: int, m: int, d: int, bias: bool, device: torch.device
) -> None:
    _compare(_inputs(device, n, m, d, bias=bias), Pairs())


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_a_tile_may_leave_in_parts(
    parts: int, bias: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type == "cuda":
        pytest.skip("the table of the interpreter")
    parted = replace(tile_table._INTERPRETED, parts=parts)
    monkeypatch.setattr(tile_table, "_INTERPRETED", parted)
    inputs = _inputs(device, m=152, d=72, bias=bias)
    _compare(inputs, Pairs(), TritonEngine(use_tma=True), keep=not bias)


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

    inputs = _inputs(device, n, m, d, bias=bias)
    monkeypatch.setattr(InterpreterBuilder, "create_dot", count)
    monkeypatch.setattr(backward, "multiply", count_library)
    _differentiate(TritonEngine(), inputs, Pairs(), keep=keep)
    assert done[0] == units * 2 * n * m * d


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_half_precision_loses_only_the_rounding_of_g(
    dtype: torch.dtype, bias: bool, device: torch.device
) -> None:
    _compare(_as(_inputs(device, bias=bias), dtype), Pairs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_the_register_kernels_equal_the_chunks(
    dtype: torch.dtype, bias: bool, device: torch.device
) -> None:
    engine = TritonEngine(chunk_bytes=0)
    pairs = _to(_pairs()["supcon"](N, M), device)
    _compare(_as(_inputs(device, bias=bias), dtype), pairs, engine)


@pytest.mark.parametrize("bias", [False, True])
def test_the_tensor_memory_accelerator_changes_nothing(bias: bool, device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("this GPU has no tensor memory accelerator")
    _compare(_inputs(device, d=72, bias=bias), Pairs(), TritonEngine(use_tma=True))


def test_a_small_chunk_is_as_exact_as_one(device: torch.device) -> None:
    _compare(_inputs(device, n=150), Pairs(), TritonEngine(chunk_bytes=64 * 128 * 4))


@pytest.mark.parametrize("scale", [1.0, 70.0, 100.0])
def test_every_scale_is_exact(scale: float, device: torch.device) -> None:
    inputs = _inputs(device, scale=scale)
    value, gradients, _ = _differentiate(TritonEngine(), inputs, Pairs())
    true, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=2e-6)
    for got, want in zip(gradients, wanted.values(), strict=True):
        assert (got.double() - want).norm() / want.norm() <= 6e-5


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 3), (1, 5, 16), (2, 130, 1)])
def test_the_smallest_shapes_work(n: int, m: int, d: int, device: torch.device) -> None:
    _compare(_inputs(device, n, m, d), Pairs(), symmetric=True)


def test_zero_rows_and_duplicates_are_finite_and_right(device: torch.device) -> None:
    inputs = _inputs(device, scale=50.0)
    inputs["x"][4] = 0.0
    inputs["y"][10:20] = inputs["y"][0:10]
    value, gradients, _ = _differentiate(TritonEngine(), inputs, Pairs())
    true, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=2e-6)
    others = [i for i in range(N) if i != 4]  # the zero row's gradient is 1e12 times too large
    assert gradients[0].isfinite().all()
    error = (gradients[0].double() - wanted["x"])[others].norm() / wanted["x"][others].norm()
    assert error <= 1e-5


def _guard_cases() -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    def opposed() -> tuple[Tensor, Tensor]:
        u = torch.nn.functional.normalize(torch.randn(1, 256), dim=1)
        noise = 0.2 * torch.randn(2, 80, 256) / 16
        return u + noise[0], -u + noise[1]

    return {
        "random": lambda: (torch.randn(80, 256), torch.randn(80, 256)),
        "anti-aligned": lambda: (torch.randn(80, 4), -torch.randn(80, 4).abs()),
        "opposed clusters": opposed,
    }


@pytest.mark.parametrize("case", _guard_cases())
@pytest.mark.parametrize("chunk_bytes", [1 << 20, 0])
def test_underflowed_rows_are_done_again_by_the_exact_kernel(
    case: str, chunk_bytes: int, device: torch.device
) -> None:
    x, y = (t.to(device) for t in _guard_cases()[case]())
    inputs = {"x": x, "y": y, "scale": torch.tensor(100.0, device=device)}
    value, gradients, _ = _differentiate(TritonEngine(chunk_bytes=chunk_bytes), inputs, Pairs())
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
    x, y = (t.to(device) for t in _guard_cases()["opposed clusters"]())
    monkeypatch.setattr(contrastive, "HEADROOM", 0.0)
    monkeypatch.setattr(contrastive, "FLOOR", -torch.inf)
    s2 = torch.tensor(100.0 * LOG2_E, device=device)
    problem = Problem(Side.measure(x), Side.measure(y), s2, Pairs(), symmetric=True)
    shares, _ = contrastive.compute_weights(problem)
    assert not TritonEngine().softmax_sums(problem, shares).lse.rows.isfinite().any()


def test_equal_inputs_give_equal_bits(device: torch.device) -> None:
    inputs = _as(_inputs(device), torch.float16)
    one = _differentiate(TritonEngine(), inputs, Pairs())
    two = _differentiate(TritonEngine(), inputs, Pairs())
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[2], two[2])
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))


def test_the_operator_reaches_triton_by_name(device: torch.device) -> None:
    from twinlens.kernels import loss

    x, y = torch.randn(40, 16, device=device), torch.randn(40, 16, device=device)
    one = loss.contrastive_loss(x, y, 9.0, engine="triton")
    two = loss.contrastive_loss(x, y, 9.0, engine="chunked")
    torch.testing.assert_close(one, two)
