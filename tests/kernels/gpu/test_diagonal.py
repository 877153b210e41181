"""Steps in few launches: exact, as few as promised, without a question to the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import GridExecutor

from tests.kernels.gpu.steps import GRADIENT_ERROR, N, cast, list_guard_cases, make_inputs
from twinlens.kernels import engines, loss, ops, reference
from twinlens.kernels.contrastive import KEPT_BYTES, SPARED_BYTES
from twinlens.kernels.gpu import diagonal, products
from twinlens.kernels.gpu.launch import Again, number_step
from twinlens.kernels.pairs import Pairs

pytestmark = pytest.mark.usefixtures("poisoned")
FORWARD, BACKWARD, SIGMOID = 5, 4, 5  # launches of our own; the products come beside them


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _differentiate(inputs: dict[str, Tensor], pairs: Pairs, **settings: Any) -> tuple[Any, Any]:
    given = {k: v.detach().clone().requires_grad_() for k, v in inputs.items()}
    value = loss.contrastive_loss(
        given["x"], given["y"], given["scale"], pairs, bias=given.get("bias"),
        kind="sigmoid" if "bias" in given else "softmax", engine="triton", **settings,
    )  # fmt: skip
    return value.detach(), torch.autograd.grad(value, list(given.values()))


def _compare(inputs: dict[str, Tensor], pairs: Pairs, **settings: Any) -> None:
    value, gradients = _differentiate(inputs, pairs, **settings)
    settings.pop("memory", None)
    true, wanted = reference.oracle(
        inputs["x"], inputs["y"], inputs["scale"], pairs, bias=inputs.get("bias"),
        kind="sigmoid" if "bias" in inputs else "softmax", **settings,
    )  # fmt: skip
    torch.testing.assert_close(value.double(), true, rtol=2e-6, atol=4e-6)
    bar = GRADIENT_ERROR[inputs["x"].dtype]
    floor = 2e-7 * max(1.0, float(inputs["scale"].abs().max()))
    for got, want in zip(gradients, wanted.values(), strict=True):
        assert (got.double() - want).norm() <= bar * want.norm() + floor


PAIRS = {"diagonal": Pairs(offset=3), "own keys": Pairs(own_key_columns=N)}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("memory", ["flat", "stored"])
def test_steps_are_exact(name: str, bias: bool, memory: str, device: torch.device) -> None:
    settings = {} if bias else {"symmetric": name != "own keys"}
    _compare(make_inputs(device, bias=bias), PAIRS[name], memory=memory, **settings)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_only_the_rounding_of_g(
    dtype: torch.dtype, bias: bool, device: torch.device
) -> None:
    inputs = cast(make_inputs(device, bias=bias), dtype)
    _compare(inputs, Pairs(), memory="flat")


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 3), (1, 5, 16), (2, 130, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_smallest_shapes_work(n: int, m: int, d: int, bias: bool, device: torch.device) -> None:
    _compare(make_inputs(device, n, m, d, bias=bias), Pairs())


@pytest.mark.parametrize("case", list_guard_cases())
def test_underflowed_rows_are_summed_again(case: str, device: torch.device) -> None:
    x, y = (t.to(device) for t in list_guard_cases()[case]())
    inputs = {"x": x, "y": y, "scale": torch.tensor(100.0, device=device)}
    value, gradients = _differentiate(inputs, Pairs())
    true, wanted = reference.oracle(x, y, inputs["scale"])
    torch.testing.assert_close(value.double(), true, rtol=1e-6, atol=1e-6)
    given = [t.clone().requires_grad_() for t in (x, y, inputs["scale"])]
    plain = torch.autograd.grad(reference.contrastive_loss(given[0], given[1], given[2]), given)
    for got, torch_got, want in zip(gradients[:2], plain, list(wanted.values())[:2], strict=False):
        assert (got - want).norm() <= 3 * (torch_got - want).norm() + 1e-5 * want.norm()


@pytest.mark.parametrize("bias", [False, True])
def test_pieces_that_do_not_hold_all_rows_are_as_exact(
    bias: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "TALL", 64)
    monkeypatch.setitem(products.CHUNK_BYTES, "flat", 64 * 64 * 4)
    _compare(make_inputs(device, n=150, bias=bias), Pairs(), memory="flat")


def test_what_comes_from_above_and_what_is_not_asked_for_count(device: torch.device) -> None:
    inputs = make_inputs(device)
    x, y = inputs["x"].requires_grad_(), inputs["y"]
    value = loss.contrastive_loss(x, y, inputs["scale"], engine="triton")
    (alone,) = torch.autograd.grad(value * 3.0, x)
    _, gradients = _differentiate(inputs, Pairs())
    torch.testing.assert_close(alone, 3.0 * gradients[0])


@pytest.mark.parametrize("bias", [False, True])
def test_the_operator_and_the_plain_function_agree(bias: bool, device: torch.device) -> None:
    inputs = make_inputs(device, bias=bias)
    _, plain = _differentiate(inputs, Pairs())
    x, y, scale = (inputs[k].clone().requires_grad_() for k in ("x", "y", "scale"))
    masks = (None, None, 0, False, 0)
    if bias:
        value, *_ = ops.sigmoid_contrast(
            x, y, scale, inputs["bias"], *masks, False, "triton", "balanced", True, True
        )
    else:
        value, *_ = ops.softmax_contrast(x, y, scale, *masks, True, "triton", "balanced", True)
    for a, b in zip(torch.autograd.grad(value, (x, y, scale)), plain, strict=False):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bias", [False, True])
def test_a_step_takes_as_few_launches_as_promised(
    bias: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type == "cuda":
        pytest.skip("counted in the interpreter")
    launches, products_of = [0], [0]
    call, multiply = GridExecutor.__call__, products.multiply

    def count(self: Any, *given: Any, **settings: Any) -> Any:
        launches[0] += 1
        return call(self, *given, **settings)

    def count_library(*given: Any, **settings: Any) -> None:
        products_of[0] += 1
        multiply(*given, **settings)

    monkeypatch.setattr(GridExecutor, "__call__", count)
    monkeypatch.setattr("twinlens.kernels.gpu.backward.multiply", count_library)
    _differentiate(make_inputs(device, bias=bias), Pairs(), memory="flat")
    assert launches[0] == (SIGMOID if bias else FORWARD + BACKWARD)
    assert products_of[0] == 2


class _NoQuestions(TorchDispatchMode):
    """Refuses what a captured step may not do: read a number, or choose a shape by data."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "_unique2", "bincount", "equal", "is_nonzero")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket._qualified_op_name.split("::")[1]
        assert name not in self.FORBIDDEN, name
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and args and isinstance(args[0], Tensor):
            assert out.device == args[0].device, name
        return out


@pytest.mark.parametrize("memory", ["flat", "stored"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_step_asks_the_device_nothing(bias: bool, memory: Any, device: torch.device) -> None:
    inputs = make_inputs(device, bias=bias)
    given = {k: v.requires_grad_() for k, v in inputs.items()}
    with _NoQuestions():
        value = loss.contrastive_loss(
            given["x"], given["y"], given["scale"], bias=given.get("bias"),
            kind="sigmoid" if bias else "softmax", engine="triton", memory=memory,
        )  # fmt: skip
        torch.autograd.grad(value, list(given.values()))
    with pytest.raises(AssertionError, match="_local_scalar_dense"), _NoQuestions():
        value.item()


@pytest.mark.gpu
@pytest.mark.parametrize("bias", [False, True])
def test_a_captured_step_finds_what_an_eager_one_finds(bias: bool) -> None:
    device = torch.device("cuda")
    inputs = cast(make_inputs(device, 512, 512, 64, bias=bias), torch.bfloat16)
    given = {k: v.requires_grad_() for k, v in inputs.items()}

    def act() -> tuple[Tensor, ...]:
        value = loss.contrastive_loss(
            given["x"], given["y"], given["scale"], bias=given.get("bias"),
            kind="sigmoid" if bias else "softmax",
        )  # fmt: skip
        return (value, *torch.autograd.grad(value, list(given.values())))

    act()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        held = act()
    with torch.no_grad():
        given["x"].copy_(torch.randn_like(given["x"]))
    graph.replay()
    assert all(map(torch.equal, held, act()))


class _Recorded:
    """Stands for a kernel: remembers how it was launched."""

    arg_names = ("a", "b", "SIZE")

    def __init__(self, *, compiles: bool = True) -> None:
        self.compiles = compiles
        self.seen: list[tuple[Any, ...]] = []
        self.again: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        def launch(*arguments: Any, **constants: Any) -> Any:
            self.seen.append((grid, arguments, constants))
            return {(4, 1, 1): self._launch_again} if self.compiles else None

        return launch

    def _launch_again(self, *arguments: Any) -> None:
        self.again.append(arguments)


def test_a_kernel_is_looked_up_once_for_a_key() -> None:
    kernel = _Recorded()
    for number in (1, 2):
        Again(kernel, ("shape",))[(4,)](number, "b", SIZE=8)
    assert kernel.seen == [((4,), (1, "b"), {"SIZE": 8})]
    assert kernel.again == [(2, "b", 8)]
    Again(kernel, ("another",))[(4,)](3, "b", SIZE=16)
    Again(kernel, None)[(4,)](4, "b", SIZE=16)
    assert [arguments[0] for _, arguments, _ in kernel.seen] == [1, 3, 4]
    Again.forget()
    Again(kernel, ("shape",))[(4,)](5, "b", SIZE=8)
    assert len(kernel.seen) == 4


def test_an_interpreted_kernel_is_looked_up_each_time() -> None:
    kernel = _Recorded(compiles=False)
    for number in (1, 2):
        Again(kernel, ("shape",))[(4,)](number, "b", SIZE=8)
    assert len(kernel.seen) == 2


def test_a_keys_number_changes_with_all_that_compiled_code_depends_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("twinlens.kernels.gpu.launch.RELAUNCHES", True)
    x, y, scale = torch.zeros(8, 16), torch.zeros(8, 16), torch.tensor(1.0)
    setting = diagonal.Setting(Pairs())
    wide = torch.zeros(8, 32)
    numbers = [
        number_step(setting, False, x, y, scale),
        number_step(setting, True, x, y, scale),
        number_step(diagonal.Setting(Pairs(1)), False, x, y, scale),
        number_step(setting, False, x.half(), y.half(), scale),
        number_step(setting, False, wide[:, :16], y, scale),
        number_step(setting, False, torch.zeros(200)[1:129].view(8, 16), y, scale),
        number_step(setting, False, torch.zeros(7, 16), y, scale),
    ]
    assert len(set(numbers)) == len(numbers)
    assert number_step(setting, False, x.clone(), y, scale) == numbers[0]


@pytest.mark.parametrize(
    ("memory", "dtype", "n", "kept"),
    [
        ("balanced", torch.bfloat16, 16_384, True),
        ("balanced", torch.bfloat16, 16_385, False),
        ("balanced", torch.float32, 1024, False),
        ("flat", torch.bfloat16, 1024, False),
        ("stored", torch.bfloat16, 65_536, True),
        ("stored", torch.float32, 65_536, False),
    ],
)
def test_terms_are_kept_while_they_are_few(
    memory: str, dtype: torch.dtype, n: int, kept: bool
) -> None:
    assert SPARED_BYTES == 2 * 16_384**2 < KEPT_BYTES
    x = torch.empty(n, 1, dtype=dtype, device="meta")
    assert engines.keeps_terms("triton", x, x, Pairs(), memory) is kept
    assert not engines.keeps_terms("chunked", x, x, Pairs(), "balanced")


def test_pieces_of_g_are_square_and_tall() -> None:
    assert products.choose_piece(65_536, 65_536, 512 << 20, 2) == (16_384, 16_384)
    assert products.choose_piece(65_536, 65_536, 64 << 20, 2) == (4096, 8192)
    assert products.choose_piece(8192, 8192, 512 << 20, 2) == (8192, 8192)
    assert products.choose_piece(100, 1_000_000, 64 << 20, 2)[0] == 100


def test_wide_rows_and_labels_take_the_general_way() -> None:
    x = torch.empty(4, 8, device="meta")
    assert engines.takes_few_launches("triton", x, Pairs())
    assert not engines.takes_few_launches("chunked", x, Pairs())
    assert not engines.takes_few_launches("triton", torch.empty(4, 5000, device="meta"), Pairs())
    labels = torch.arange(4)
    assert not engines.takes_few_launches("triton", x, Pairs(0, labels, labels))
