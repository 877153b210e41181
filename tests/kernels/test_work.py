"""Work and memory of the losses, counted: products of 2nmd operations, bytes at the peak."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from twinlens.kernels import chunked, loss, ops
from twinlens.kernels.pairs import Pairs

N, M, D = 96, 128, 64
PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
INNER = {op._opoverload: op._init_fn for op in (
    ops.softmax_contrast, ops.softmax_contrast_backward, ops.sigmoid_contrast)}  # fmt: skip


class Count(TorchDispatchMode):
    """Counts operations of matrix products and bytes alive, inside our operators too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self.bytes = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in INNER:
            with self:
                return INNER[func](*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in PRODUCTS:
            a, b = [t for t in args if isinstance(t, Tensor)][-2:]
            self.operations += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def _step(count: Count, n: int, m: int, d: int, **settings: Any) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(n, d, requires_grad=True), torch.randn(m, d, requires_grad=True)
    with count:
        value = loss.contrastive_loss(x, y, 10.0, **settings)
        value.backward()


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "ROWS", 32)
    monkeypatch.setattr(chunked, "COLUMNS", 64)


@pytest.mark.parametrize(
    ("settings", "units"),
    [
        ({"kind": "sigmoid", "bias": -5.0}, 3),
        ({"memory": "flat"}, 4),
        ({"memory": "balanced"}, 4),
        ({"memory": "stored"}, 3),
        ({"memory": "stored", "pairs": Pairs(0, torch.arange(N), torch.arange(M))}, 4),
    ],
)
def test_products_of_2nmd_are_as_many_as_promised(settings: dict[str, Any], units: int) -> None:
    count = Count()
    _step(count, N, M, D, **settings)
    assert count.operations == units * 2 * N * M * D


@pytest.mark.parametrize(("settings", "units"), [({"kind": "sigmoid", "bias": -5.0}, 3), ({}, 4)])
@pytest.mark.parametrize("widths", [(16, D), (8, 16, 32, D)])
def test_prefixes_cost_the_products_of_the_longest_alone(
    settings: dict[str, Any], units: int, widths: tuple[int, ...]
) -> None:
    count = Count()
    x, y = torch.randn(N, D, requires_grad=True), torch.randn(M, D, requires_grad=True)
    with count:
        loss.matryoshka_loss(x, y, 10.0, widths, **settings).backward()
    assert count.operations == units * 2 * N * M * D


def test_the_tiles_of_many_prefixes_are_as_large_as_one_losss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunked, "ROWS", 512)
    monkeypatch.setattr(chunked, "COLUMNS", 1024)
    peaks = []
    for widths in ((8, 16), (2, 4, 8, 12, 16)):
        count, (x, y) = Count(), torch.randn(2, 1024, 16, requires_grad=True).unbind()
        with count:
            loss.matryoshka_loss(x, y, 10.0, widths).backward()
        peaks.append(count.peak)
    assert peaks[1] <= 1.3 * peaks[0]


def test_a_value_alone_costs_one_product() -> None:
    for settings in ({"kind": "sigmoid", "bias": -5.0}, {"memory": "stored"}):
        count, x, y = Count(), torch.randn(N, D), torch.randn(M, D)
        with count:
            loss.contrastive_loss(x, y, 10.0, **settings)
        assert count.operations == 2 * N * M * D


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("memory", ["flat", "balanced"])
def test_memory_grows_with_the_rows_and_not_with_their_square(kind: Any, memory: Any) -> None:
    peaks = []
    for n in (1024, 2048):
        count = Count()
        _step(count, n, n, 16, kind=kind, memory=memory)
        peaks.append(count.peak)
    assert peaks[1] <= 2.2 * peaks[0]
    assert peaks[1] < 2048 * 2048  # a quarter of one matrix in float32


def test_stored_keeps_the_one_matrix_and_gives_it_back() -> None:
    flat, stored = Count(), Count()
    _step(flat, 1024, 1024, 16, memory="flat")
    _step(stored, 1024, 1024, 16, memory="stored")
    matrix = 4 * 1024 * 1024
    assert matrix <= stored.peak - flat.peak + 64 * 1024 <= 1.1 * matrix
    assert stored.bytes <= flat.bytes


def test_stored_beyond_its_limit_is_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinlens.kernels.contrastive.KEPT_BYTES", 4 * N * M - 1)
    count = Count()
    _step(count, N, M, D, memory="stored")
    assert count.operations == 4 * 2 * N * M * D
