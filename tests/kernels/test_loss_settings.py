"""What else the losses offer: memory settings, weighed positives, prefixes; beside open_clip's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

from tests.kernels.oracle import SHAPE, Kind, compare, differentiate, list_cases, make_inputs
from twinlens.errors import InputError
from twinlens.kernels import chunked, loss, reference
from twinlens.kernels.pairs import Pairs


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "ROWS", 16)
    monkeypatch.setattr(chunked, "COLUMNS", 23)
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("case", list_cases())
@pytest.mark.parametrize("memory", ["flat", "balanced", "stored"])
def test_every_memory_setting_gives_the_same_loss_and_gradients(case: str, memory: str) -> None:
    n, m, d = SHAPE
    pairs = list_cases()[case](n, m)
    _compare_settings(make_inputs(n, m, d, 100.0, torch.float64), pairs, memory)


def _compare_settings(inputs: dict[str, Tensor], pairs: Pairs, memory: str) -> None:
    value, gradients = differentiate(inputs, pairs, memory=memory)
    true, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"], pairs)
    torch.testing.assert_close(value, true)
    for got, want in zip(gradients, wanted.values(), strict=True):
        torch.testing.assert_close(got, want)


def test_kept_terms_serve_more_than_one_backward() -> None:
    x, y, scale = given = list(make_inputs(9, 9, 6, 10.0, torch.float64).values())
    value = loss.contrastive_loss(
        x.requires_grad_(), y.requires_grad_(), scale.requires_grad_(), memory="stored"
    )
    one = torch.autograd.grad(value, given, retain_graph=True)
    two = torch.autograd.grad(value, given)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_an_unknown_memory_setting_is_refused_with_the_known_ones() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(InputError, match="memory is 'low'; choose from flat, balanced, stored"):
        loss.contrastive_loss(x, x, 1.0, memory="low")  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["labels", "labels without self", "diagonal"])
def test_positives_of_large_groups_can_be_weighed_down(case: str) -> None:
    n, m, d = SHAPE
    pairs = replace(list_cases()[case](n, m), weigh_positives=True)
    inputs = make_inputs(n, m, d, 10.0, torch.float64) | {"bias": torch.tensor(-3.0).double()}
    compare(inputs, pairs, 1e-13, kind="sigmoid")


def test_groups_of_one_weigh_as_siglips_diagonal() -> None:
    x, y = torch.randn(2, 8, 5, dtype=torch.float64)
    each = torch.arange(8)
    pairs = Pairs(row_labels=each, column_labels=each, weigh_positives=True)
    grouped = loss.contrastive_loss(x, y, 9.0, pairs, bias=-4.0, kind="sigmoid")
    torch.testing.assert_close(grouped, loss.siglip_loss(x, y, 9.0, -4.0))


def test_weights_on_a_softmaxs_positives_are_refused() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(InputError, match="weigh_positives"):
        loss.contrastive_loss(x, x, 1.0, Pairs(weigh_positives=True))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_matryoshka_is_the_weighted_sum_of_its_prefixes(kind: Kind) -> None:
    x, y = (torch.randn(2, 20, 12, dtype=torch.float64)).unbind()
    scale = torch.tensor(8.0, dtype=torch.float64)
    bias = torch.tensor(-3.0, dtype=torch.float64) if kind == "sigmoid" else None
    widths, weights = (3, 8, 12), (0.5, 1.0, 2.0)
    given = [t.requires_grad_() for t in (x, y, scale)]
    value = loss.matryoshka_loss(
        x, y, scale, widths, weights=weights, kind=kind, bias=bias, memory="flat"
    )
    terms = [
        w * reference.contrastive_loss(x[:, :k], y[:, :k], scale, kind=kind, bias=bias)
        for k, w in zip(widths, weights, strict=True)
    ]
    want = torch.stack(terms).sum()
    torch.testing.assert_close(value, want)
    for a, b in zip(*(torch.autograd.grad(v, given) for v in (value, want)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("widths", [(), (8, 4), (4, 4), (0, 4), (4, 99)])
def test_widths_that_are_no_prefixes_are_refused(widths: tuple[int, ...]) -> None:
    x = torch.randn(4, 8)
    with pytest.raises(InputError, match="widths is"):
        loss.matryoshka_loss(x, x, 1.0, widths)


def test_matryoshkas_weights_are_one_for_each_width() -> None:
    x = torch.randn(4, 8)
    with pytest.raises(InputError, match="2 numbers for 3 widths"):
        loss.matryoshka_loss(x, x, 1.0, (2, 4, 8), weights=(1.0, 1.0))


def test_what_comes_from_above_scales_the_one_pass_gradient() -> None:
    x, y = torch.randn(2, 8, 5, dtype=torch.float64)
    given = [x.requires_grad_(), y.requires_grad_()]
    one = torch.autograd.grad(loss.siglip_loss(x, y, 9.0, -4.0), given)
    three = torch.autograd.grad(3 * loss.siglip_loss(x, y, 9.0, -4.0), given)
    for a, b in zip(one, three, strict=True):
        torch.testing.assert_close(3 * a, b)


def test_a_scaled_loss_keeps_float16_gradients_that_alone_would_vanish() -> None:
    x, y = (torch.randn(64, 32).half() for _ in range(2))
    y = x + 0.1 * y
    _, wanted = reference.oracle(x, y, torch.tensor(5.0), bias=torch.tensor(-20.0), kind="sigmoid")
    x.requires_grad_()
    up = 2.0**16 / 100
    (up * loss.siglip_loss(x * 100, y, 5.0, -20.0)).backward()
    assert x.grad is not None
    want = up * wanted["x"]
    assert (x.grad.double() - want).norm() <= 2e-3 * want.norm()


def _open_clip_inputs() -> tuple[list[Tensor], list[Tensor]]:
    raw = [t.requires_grad_() for t in torch.randn(2, 40, 24, dtype=torch.float64).unbind()]
    return raw, [torch.nn.functional.normalize(t, dim=1) for t in raw]


def test_clips_loss_and_gradients_are_open_clips() -> None:
    raw, unit = _open_clip_inputs()
    scale = torch.tensor(100.0, dtype=torch.float64, requires_grad=True)
    theirs = ClipLoss()(*unit, scale)
    _hold_equal(theirs, loss.clip_loss(raw[0], raw[1], scale), [*raw, scale])


def test_siglips_loss_and_gradients_are_open_clips() -> None:
    raw, unit = _open_clip_inputs()
    scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-10.0, dtype=torch.float64, requires_grad=True)
    theirs = SigLipLoss()(*unit, scale, bias)
    _hold_equal(theirs, loss.siglip_loss(raw[0], raw[1], scale, bias), [*raw, scale, bias])


def _hold_equal(theirs: Tensor, ours: Tensor, given: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs)
    pairs = zip(*(torch.autograd.grad(v, given) for v in (ours, theirs)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)
