"""The chunked losses against the float64 oracle: values, gradients, edges, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.kernels.oracle import SHAPE, Kind, compare, differentiate, list_cases, make_inputs
from twinlens.errors import InputError
from twinlens.kernels import chunked, loss, reference
from twinlens.kernels.contrastive import LOG2_E
from twinlens.kernels.pairs import Pairs


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tiles small and odd, so that every sweep crosses their borders."""
    monkeypatch.setattr(chunked, "ROWS", 16)
    monkeypatch.setattr(chunked, "COLUMNS", 23)
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("case", list_cases())
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_softmax_loss_and_its_gradients_equal_the_oracles(
    case: str, symmetric: bool, dtype: torch.dtype, rtol: float
) -> None:
    n, m, d = SHAPE
    pairs = list_cases()[case](n, m)
    compare(make_inputs(n, m, d, 14.3, dtype), pairs, rtol, symmetric=symmetric)


@pytest.mark.parametrize("case", list_cases())
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_sigmoid_loss_and_its_gradients_equal_the_oracles(
    case: str, dtype: torch.dtype, rtol: float
) -> None:
    n, m, d = SHAPE
    inputs = make_inputs(n, m, d, 10.0, dtype) | {"bias": torch.tensor(-3.0, dtype=dtype)}
    compare(inputs, list_cases()[case](n, m), rtol, kind="sigmoid")


@pytest.mark.parametrize("scale", [1.0, 14.3, 70.0, 100.0])
def test_every_scale_is_exact(scale: float) -> None:
    compare(make_inputs(33, 33, 64, scale, torch.float32), Pairs(), 2e-6)


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_batches_work(n: int) -> None:
    inputs = make_inputs(n, n, 5, 20.0, torch.float64)
    value, gradients = differentiate(inputs, Pairs())
    want, true = reference.oracle(inputs["x"], inputs["y"], inputs["scale"])
    torch.testing.assert_close(value, want, rtol=0, atol=1e-13)
    for got, expected in zip(gradients, true.values(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_duplicate_rows_share_the_probability() -> None:
    inputs = make_inputs(24, 24, 8, 50.0, torch.float64)
    inputs["y"][12:] = inputs["y"][:12]
    compare(inputs, Pairs(), 1e-12)


def test_a_zero_row_has_cosine_zero_and_a_finite_loss() -> None:
    inputs = make_inputs(9, 9, 6, 30.0, torch.float64)
    inputs["x"][4] = 0.0
    value, gradients = differentiate(inputs, Pairs())
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
    value, gradients = differentiate(inputs, Pairs())
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
    compare(inputs, pairs, 4e-6, symmetric=True)


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
