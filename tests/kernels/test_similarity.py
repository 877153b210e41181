"""Probabilities and the top k: Triton and blocked torch against the specification in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from twinlens.errors import InputError
from twinlens.kernels import reference, similarity
from twinlens.kernels.gpu import inference
from twinlens.kernels.gpu.launch import Launch
from twinlens.kernels.gpu.plan_table import CLASSES, PLAN_TABLE, ROWS, PlanName
from twinlens.kernels.gpu.plans import PLANS, Plan, plan_similarity, split_classes

HALVES = [torch.float32, torch.float16, torch.bfloat16]
H200 = Launch(arch=90, processors=132)
# What the interpreter has no machine for: the tensor memory accelerator and launches that overlap.
INTERPRETED: dict[PlanName, Plan] = {
    name: replace(plan, tma=False, chained=False)
    for name, plan in PLANS.items()
    if name != "chained"
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _inputs(n: int, m: int, d: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    x, y = torch.randn(n, d), torch.randn(m, d)
    return [x.to(device, dtype), y.to(device, dtype), torch.tensor(50.0, device=device)]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("n", "m", "d"), [(20, 303, 70), (1, 1, 3)])
@pytest.mark.parametrize("plan", INTERPRETED)
def test_every_plan_of_the_softmax_is_exact(
    plan: PlanName,
    n: int,
    m: int,
    d: int,
    dtype: torch.dtype,
    device: torch.device,
    poisoned: None,
) -> None:
    x, y, scale = _inputs(n, m, d, dtype, device)
    want = reference.similarity_softmax(x.double(), y.double(), scale.double())
    got = inference.similarity(x, y, scale, None, INTERPRETED[plan])
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("plan", INTERPRETED)
def test_every_plan_of_the_sigmoid_is_exact(
    plan: PlanName, device: torch.device, poisoned: None
) -> None:
    x, y, scale = _inputs(20, 203, 70, torch.float32, device)
    bias = torch.tensor(-7.0, device=device)
    want = reference.similarity_sigmoid(x.double(), y.double(), scale.double(), bias.double())
    got = inference.similarity(x, y, scale, bias, INTERPRETED[plan])
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("plan", INTERPRETED)
def test_zero_rows_duplicates_and_a_scale_of_100_are_exact(
    plan: PlanName, device: torch.device, poisoned: None
) -> None:
    x, y, _ = _inputs(5, 303, 16, torch.float32, device)
    x[1], x[2], y[9], y[302] = 0.0, y[4], y[4], 0.0
    scale = torch.tensor(100.0, device=device)
    want = reference.similarity_softmax(x.double(), y.double(), scale.double())
    got = inference.similarity(x, y, scale, None, INTERPRETED[plan])
    torch.testing.assert_close(got.double(), want, rtol=2e-4, atol=1e-7)
    torch.testing.assert_close(got[1], torch.full_like(got[1], 1 / 303))
    assert got[2, 4] == got[2, 9]


def test_rows_longer_than_a_program_holds_are_gone_over_twice(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, poisoned: None
) -> None:
    monkeypatch.setattr(inference, "ROW", 64)
    monkeypatch.setattr(inference, "PART", 64)
    x, y, scale = _inputs(3, 203, 16, torch.float32, device)
    want = reference.similarity_softmax(x.double(), y.double(), scale.double())
    for plan in (PLANS["small"], PLANS["small partial"], PLANS["library"]):
        got = inference.similarity(x, y, scale, None, plan)
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=2e-6)


def test_the_splits_are_combined_in_one_order(device: torch.device) -> None:
    x, y, scale = _inputs(4, 640, 16, torch.float32, device)
    for name in ("small", "small partial"):
        first = inference.similarity(x, y, scale, None, PLANS[name])
        for _ in range(100):
            assert torch.equal(first, inference.similarity(x, y, scale, None, PLANS[name]))


def test_few_rows_fill_the_processors() -> None:
    for element in (torch.bfloat16, torch.float32):
        x, y = torch.empty(64, 512, dtype=element), torch.empty(1000, 512, dtype=element)
        plan = plan_similarity(H200, x, y)
        bands, splits = split_classes(H200, H200.tile(plan.tile, x, y), 64, 1000)
        assert bands * splits >= 128


def test_the_plan_is_that_of_the_nearest_size() -> None:
    def plan_of(n: int, m: int) -> object:
        x, y = (torch.empty(rows, 16, device="meta", dtype=torch.bfloat16) for rows in (n, m))
        return plan_similarity(H200, x, y)

    for row, n in enumerate(ROWS):
        for column, m in enumerate(CLASSES):
            assert plan_of(n, m) == PLANS[PLAN_TABLE[2][row][column]]
    assert plan_of(70, 1500) == plan_of(64, 1000)
    assert plan_of(100_000, 10_000_000) == plan_of(4096, 1_000_000)


def test_unaligned_rows_and_older_gpus_take_no_plan_of_hoppers() -> None:
    odd = torch.empty(4096, 17), torch.empty(1_000_000, 17, device="meta")
    assert plan_similarity(H200, *odd) == PLANS["small"]
    for n in ROWS:
        for m in CLASSES:
            x, y = (torch.empty(rows, 16, device="meta") for rows in (n, m))
            plan = plan_similarity(Launch(80, 108), x, y)
            assert not plan.tma
            assert not plan.chained


@pytest.mark.parametrize("path", ["triton", "blocked"])
@pytest.mark.parametrize(("n", "m", "k"), [(9, 700, 8), (3, 40, 40), (1, 129, 1)])
def test_the_two_phase_top_k_is_exact(
    path: str, n: int, m: int, k: int, device: torch.device, poisoned: None
) -> None:
    x, y, scale = _inputs(n, m, 70, torch.float32, device)
    y[m // 2] = y[3]  # of equal classes the first must win
    y[m - 1] = y[m // 3]
    p, index = reference.similarity_topk(x.double(), y.double(), scale.double(), k)
    find = inference.topk if path == "triton" else similarity.blocked_topk
    got_p, got_index = find(x, y, scale, k)
    assert torch.equal(got_index, index)
    torch.testing.assert_close(got_p.double(), p, rtol=2e-5, atol=1e-7)


def test_blocks_do_not_show_in_the_top_k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "BLOCK", 256)
    inputs = _inputs(6, 1000, 16, torch.float64, torch.device("cpu"))
    inputs[1][900] = inputs[1][100]
    p, index = reference.similarity_topk(inputs[0], inputs[1], inputs[2], 5)
    x, y, scale = inputs
    got_p, got_index = similarity.similarity_topk(x, y, scale, 5)
    assert torch.equal(got_index, index)
    torch.testing.assert_close(got_p, p, rtol=1e-6, atol=1e-12)


def test_k_beyond_the_classes_is_refused() -> None:
    x, y, scale = _inputs(2, 5, 4, torch.float32, torch.device("cpu"))
    with pytest.raises(InputError, match="k is 6"):
        similarity.similarity_topk(x, y, scale, 6)


def test_gradients_pass_through_the_probabilities() -> None:
    x, y = (torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 5))
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (3.0, -1.0))
    assert torch.autograd.gradcheck(similarity.similarity_softmax, (x, y, scale))
    assert torch.autograd.gradcheck(similarity.similarity_sigmoid, (x, y, scale, bias))
