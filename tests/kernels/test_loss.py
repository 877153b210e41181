"""The chunked losses against the float64 oracle: values, gradients, edges, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from twinlens.errors import InputError
from twinlens.kernels import chunked, loss, reference
from twinlens.kernels.contrastive import LOG2_E
from twinlens.kernels.pairs import Pairs

Kind = Literal["softmax", "sigmoid"]
SHAPE = (37, 70, 19)  # no multiple of any tile


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tiles small and odd, so that every sweep crosses their borders."""
    monkeypatch.setattr(chunked, "ROWS", 16)
    monkeypatch.setattr(chunked, "COLUMNS", 23)
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _labels(length: int) -> Tensor:
    return torch.randint(0, 9, (length,))


def _cases() -> dict[str, Callable[[int, int], Pairs]]:
    return {
        "diagonal": lambda n, m: Pairs(),
        "shifted diagonal": lambda n, m: Pairs(offset=m - n),
        "own keys before a queue": lambda n, m: Pairs(own_key_columns=n),
        "labels": lambda n, m: Pairs(row_labels=_labels(n), column_labels=_labels(m)),
        "labels without self": lambda n, m: _without_self(n, m),
    }


def _without_self(n: int, m: int) -> Pairs:
    labels = _labels(m)
    return Pairs(offset=3, row_labels=labels[3 : 3 + n], column_labels=labels, exclude_self=True)


def _run(inputs: dict[str, Tensor], pairs: Pairs, **settings: Any) -> tuple[Tensor, list[Tensor]]:
    given = {k: v.detach().clone().requires_grad_() for k, v in inputs.items()}
    bias = given.get("bias")
    value = loss.contrastive_loss(
        given["x"], given["y"], given["scale"], pairs, bias=bias, **settings
    )
    return value.detach(), list(torch.autograd.grad(value, list(given.values())))


def _compare(inputs: dict[str, Tensor], pairs: Pairs, rtol: float, **settings: Any) -> None:
    value, gradients = _run(inputs, pairs, **settings)
    true, true_gradients = reference.oracle(
        inputs["x"], inputs["y"], inputs["scale"], pairs, bias=inputs.get("bias"), **settings
    )
    torch.testing.assert_close(value.double(), true, rtol=rtol, atol=rtol)
    for got, want in zip(gradients, true_gradients.values(), strict=True):
        error = (got.double() - want).norm() / want.norm().clamp_min(1e-6)
        assert error <= 10 * rtol, error


def _inputs(n: int, m: int, d: int, scale: float, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "x": torch.randn(n, d, dtype=dtype),
        "y": torch.randn(m, d, dtype=dtype),
        "scale": torch.tensor(scale, dtype=dtype),
    }


@pytest.mark.parametrize("case", _cases())
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_softmax_loss_and_its_gradients_equal_the_oracles(
    case: str, symmetric: bool, dtype: torch.dtype, rtol: float
) -> None:
    n, m, d = SHAPE
    pairs = _cases()[case](n, m)
    _compare(_inputs(n, m, d, 14.3, dtype), pairs, rtol, symmetric=symmetric)


@pytest.mark.parametrize("case", _cases())
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_sigmoid_loss_and_its_gradients_equal_the_oracles(
    case: str, dtype: torch.dtype, rtol: float
) -> None:
    n, m, d = SHAPE
    inputs = _inputs(n, m, d, 10.0, dtype) | {"bias": torch.tensor(-3.0, dtype=dtype)}
    _compare(inputs, _cases()[case](n, m), rtol, kind="sigmoid")


@pytest.mark.parametrize("scale", [1.0, 14.3, 70.0, 100.0])
def test_every_scale_is_exact(scale: float) -> None:
    _compare(_inputs(33, 33, 64, scale, torch.float32), Pairs(), 2e-6)


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_batches_work(n: int) -> None:
    inputs = _inputs(n, n, 5, 20.0, torch.float64)
    value, gradients = _run(inputs, Pairs())
    want, true = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value, want, rtol=0, atol=1e-13)
    for got, expected in zip(gradients, true.values(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_duplicate_rows_share_the_probability() -> None:
    inputs = _inputs(24, 24, 8, 50.0, torch.float64)
    inputs["y"][12:] = inputs["y"][:12]
    _compare(inputs, Pairs(), 1e-12)


def test_a_zero_row_has_cosine_zero_and_a_finite_loss() -> None:
    inputs = _inputs(9, 9, 6, 30.0, torch.float64)
    inputs["x"][4] = 0.0
    value, gradients = _run(inputs, Pairs())
    true, _ = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value, true)
    assert all(g.isfinite().all() for g in gradients)


def _guard_cases() -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    def random() -> tuple[Tensor, Tensor]:
        return torch.randn(96, 512), torch.randn(96, 512)

    def anti_aligned() -> tuple[Tensor, Tensor]:
        return torch.randn(96, 4), -torch.randn(96, 4).abs()

    def opposed() -> tuple[Tensor, Tensor]:
        u = torch.nn.functional.normalize(torch.randn(1, 512), dim=1)
        noise = [0.2 * torch.randn(96, 512) / 22.6 for _ in range(2)]
        return u + noise[0], -u + noise[1]

    return {"random": random, "anti-aligned": anti_aligned, "opposed clusters": opposed}


@pytest.mark.parametrize("case", _guard_cases())
@pytest.mark.parametrize("scale", [14.3, 70.0, 100.0, 300.0])
def test_rows_that_underflow_under_the_constant_shift_are_done_exactly(
    case: str, scale: float
) -> None:
    x, y = _guard_cases()[case]()
    flushed = torch.set_flush_denormal(True)  # as a GPU does
    try:
        _hold_to_plain_torch({"x": x, "y": y, "scale": torch.tensor(scale)})
    finally:
        if flushed:
            torch.set_flush_denormal(False)


def _hold_to_plain_torch(inputs: dict[str, Tensor]) -> None:
    """Nearly equal embeddings lose digits in any float32: no more than twice torch's own loss."""
    value, gradients = _run(inputs, Pairs())
    true, true_gradients = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value.double(), true, rtol=1e-6, atol=1e-6)
    x, y, scale = given = [t.clone().requires_grad_() for t in inputs.values()]
    plain = torch.autograd.grad(reference.contrastive_loss(x, y, scale), given)
    for got, torch_got, want in zip(gradients, plain, true_gradients.values(), strict=True):
        assert (got - want).norm() <= 2 * (torch_got - want).norm() + 1e-6 * want.norm()


def test_the_guard_is_really_needed_by_the_opposed_clusters() -> None:
    x, y = _guard_cases()["opposed clusters"]()
    unit = torch.nn.functional.normalize
    s2 = torch.tensor(100.0 * LOG2_E)
    sums, _ = chunked.softmax_sums(unit(x, dim=1), unit(y, dim=1), s2, Pairs(), columns=False)
    assert (sums < 2.0**-100).all()


def test_underflowed_rows_are_exact_with_a_self_mask_too() -> None:
    x, _ = _guard_cases()["opposed clusters"]()
    views = torch.cat([x[:20], -x[:20]])
    labels = torch.arange(20).repeat(2)
    pairs = Pairs(row_labels=labels, column_labels=labels, exclude_self=True)
    inputs = {"x": views, "y": views.clone(), "scale": torch.tensor(300.0)}
    _compare(inputs, pairs, 4e-6, symmetric=True)


def test_gradcheck_passes_in_float64() -> None:
    x, y = (torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss.clip_loss, (x, y, scale))
    assert torch.autograd.gradcheck(loss.siglip_loss, (x, y, scale, bias))


def test_nt_xent_is_cross_entropy_over_the_other_views() -> None:
    a, b = torch.randn(11, 8, dtype=torch.float64), torch.randn(11, 8, dtype=torch.float64)
    z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    logits = (5.0 * z @ z.T).fill_diagonal_(-torch.inf)
    target = torch.cat([torch.arange(11, 22), torch.arange(11)])
    want = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(loss.nt_xent_loss(a, b, 5.0), want)


def test_moco_is_cross_entropy_of_the_own_key_against_the_queue() -> None:
    q, k, queue = (torch.randn(n, 8, dtype=torch.float64) for n in (7, 7, 40))
    unit = torch.nn.functional.normalize
    own = (unit(q, dim=1) * unit(k, dim=1)).sum(1, keepdim=True)
    logits = torch.cat([own, unit(q, dim=1) @ unit(queue, dim=1).T], 1) / 0.07
    want = torch.nn.functional.cross_entropy(logits, torch.zeros(7, dtype=torch.int64))
    torch.testing.assert_close(loss.moco_loss(q, k, queue, 1 / 0.07), want)


def test_supcon_ignores_a_view_that_is_alone_in_its_class() -> None:
    views, labels = (
        torch.randn(9, 6, dtype=torch.float64),
        torch.tensor([0, 0, 1, 1, 2, 0, 1, 3, 3]),
    )
    z = torch.nn.functional.normalize(views, dim=1)
    log_p = (8.0 * z @ z.T).fill_diagonal_(-torch.inf).log_softmax(1)
    terms = []
    for i in range(9):
        others = [j for j in range(9) if j != i and labels[j] == labels[i]]
        if others:
            terms.append(-log_p[i, others].mean())
    torch.testing.assert_close(loss.supcon_loss(views, labels, 8.0), torch.stack(terms).mean())


def test_no_positive_at_all_is_a_loss_of_zero_with_zero_gradients() -> None:
    views = torch.randn(4, 3, requires_grad=True)
    value = loss.supcon_loss(views, torch.arange(4), 8.0)
    value.backward()
    assert value == 0.0
    assert views.grad is not None
    assert not views.grad.any()


def test_siglip_divides_the_sum_over_pairs_by_n() -> None:
    x, y = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    logits = 10.0 * reference.similarity(x, y) - 10.0
    signs = 2 * torch.eye(6, dtype=torch.float64) - 1
    want = -torch.nn.functional.logsigmoid(signs * logits).sum() / 6
    torch.testing.assert_close(loss.siglip_loss(x, y, 10.0, -10.0), want)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_permuting_both_sides_alike_changes_nothing(kind: Kind) -> None:
    x, y = torch.randn(30, 8, dtype=torch.float64), torch.randn(30, 8, dtype=torch.float64)
    order = torch.randperm(30)
    bias = -1.0 if kind == "sigmoid" else None
    one = loss.contrastive_loss(x, y, 9.0, bias=bias, kind=kind)
    two = loss.contrastive_loss(x[order], y[order], 9.0, bias=bias, kind=kind)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("case", _cases())
@pytest.mark.parametrize("memory", ["flat", "balanced", "stored"])
def test_every_memory_setting_gives_the_same_loss_and_gradients(case: str, memory: str) -> None:
    n, m, d = SHAPE
    pairs = _cases()[case](n, m)
    _compare_settings(_inputs(n, m, d, 100.0, torch.float64), pairs, memory)


def _compare_settings(inputs: dict[str, Tensor], pairs: Pairs, memory: str) -> None:
    value, gradients = _run(inputs, pairs, memory=memory)
    true, wanted = reference.oracle(inputs["x"], inputs["y"], inputs["scale"], pairs)
    torch.testing.assert_close(value, true)
    for got, want in zip(gradients, wanted.values(), strict=True):
        torch.testing.assert_close(got, want)


def test_kept_terms_serve_more_than_one_backward() -> None:
    x, y, scale = given = list(_inputs(9, 9, 6, 10.0, torch.float64).values())
    value = loss.contrastive_loss(
        x.requires_grad_(), y.requires_grad_(), scale.requires_grad_(), memory="stored"
    )
    one = torch.autograd.grad(value, given, retain_graph=True)
    two = torch.autograd.grad(value, given)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_an_unknown_memory_setting_is_refused_with_the_known_ones() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(InputError, match="memory is 'low'; known are flat, balanced, stored"):
        loss.contrastive_loss(x, x, 1.0, memory="low")  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["labels", "labels without self", "diagonal"])
def test_positives_of_large_groups_can_be_weighed_down(case: str) -> None:
    n, m, d = SHAPE
    pairs = replace(_cases()[case](n, m), weigh_positives=True)
    inputs = _inputs(n, m, d, 10.0, torch.float64) | {"bias": torch.tensor(-3.0).double()}
    _compare(inputs, pairs, 1e-13, kind="sigmoid")


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


def test_the_length_of_an_embedding_does_not_matter() -> None:
    x, y = torch.randn(12, 8, dtype=torch.float64), torch.randn(12, 8, dtype=torch.float64)
    longer = x * torch.rand(12, 1, dtype=torch.float64).add(0.1)
    torch.testing.assert_close(loss.clip_loss(x, y, 9.0), loss.clip_loss(longer, y, 9.0))


def test_half_precision_embeddings_are_computed_in_float32() -> None:
    x, y = (torch.randn(40, 32).bfloat16().requires_grad_() for _ in range(2))
    value = loss.clip_loss(x, y, 20.0)
    true, gradients = reference.oracle(x, y, torch.tensor(20.0))
    torch.testing.assert_close(value.double(), true, rtol=1e-5, atol=0)
    value.backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16
    assert (x.grad.double() - gradients["x"]).norm() / gradients["x"].norm() < 4e-3


def test_a_queue_without_gradient_costs_none() -> None:
    q, k = torch.randn(7, 8, requires_grad=True), torch.randn(7, 8)
    queue = torch.randn(40, 8)
    loss.moco_loss(q, k, queue, 14.0).backward()
    assert q.grad is not None
    assert queue.grad is None


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (Pairs(offset=2), "offset 2"),
        (Pairs(row_labels=torch.zeros(4)), "go together"),
        (Pairs(row_labels=torch.zeros(3), column_labels=torch.zeros(4)), "row_labels"),
        (Pairs(exclude_self=True), "exclude_self"),
    ],
)
def test_pairs_that_do_not_fit_are_refused_by_name(pairs: Pairs, said: str) -> None:
    x = torch.randn(4, 3)
    with pytest.raises(InputError, match=said):
        loss.contrastive_loss(x, x, 1.0, pairs)


def test_embeddings_that_do_not_match_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(4, 3\) and y \(4, 2\)"):
        loss.clip_loss(torch.randn(4, 3), torch.randn(4, 2), 1.0)
    with pytest.raises(InputError, match="float64"):
        loss.clip_loss(torch.randn(4, 3), torch.randn(4, 3, dtype=torch.float64), 1.0)
    with pytest.raises(InputError, match="bias"):
        loss.contrastive_loss(torch.randn(4, 3), torch.randn(4, 3), 1.0, bias=1.0)
