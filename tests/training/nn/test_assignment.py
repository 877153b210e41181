"""Balanced assignments: what Sinkhorn promises, and what naive exponentials cannot hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.training.objectives.oracle_family import sinkhorn
from twinlens.training.nn import assignment
from twinlens.training.nn.assignment import (
    balance_assignments,
    cross_view_entropy,
    describe_targets,
    prototype_entropy,
)
from twinlens.training.seeds import generator


def scores(n: int = 24, k: int = 6, scale: float = 5.0) -> torch.Tensor:
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(0)).double()


def test_three_rounds_equal_plain_exponentials() -> None:
    np.testing.assert_allclose(balance_assignments(scores()), sinkhorn(scores().numpy()), rtol=1e-9)


def test_rows_are_distributions_and_prototypes_get_equal_mass() -> None:
    found = balance_assignments(scores(), 200)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(24).double())
    torch.testing.assert_close(
        found.sum(dim=0), torch.full((6,), 24 / 6).double(), rtol=1e-3, atol=0
    )


def test_scores_that_overflow_fp32_are_balanced_all_the_same() -> None:
    """exp(3.6 / 0.04) is infinite in fp32."""
    found = balance_assignments(scores(scale=90.0).float())
    assert torch.isfinite(found).all()
    torch.testing.assert_close(
        found.double(), balance_assignments(scores(scale=90.0)), rtol=1e-3, atol=1e-4
    )


def test_equal_rows_are_spread_evenly_instead_of_all_taking_one_prototype() -> None:
    same = scores()[:1].repeat(24, 1)
    torch.testing.assert_close(balance_assignments(same), torch.full((24, 6), 1 / 6).double())


def test_a_view_never_predicts_its_own_assignment() -> None:
    """A prediction that equals its own target gains nothing; one that equals the other's does."""
    targets = torch.eye(2)[None]  # view 0 is in cluster 0, view 1 in cluster 1
    own = torch.tensor([[[0.0, -9.0], [-9.0, 0.0]]])
    assert float(cross_view_entropy(targets, own)) == 9
    assert float(cross_view_entropy(targets, own.flip(1))) == 0


def test_entropies_tell_flat_targets_from_those_that_agree() -> None:
    flat = describe_targets(torch.full((3, 8), 1 / 8))
    assert math.isclose(float(flat["teacher_entropy"]), math.log(8), rel_tol=1e-6)
    apart, agreed = describe_targets(torch.eye(8)), describe_targets(torch.eye(8)[:1].repeat(8, 1))
    assert float(apart["teacher_entropy"]) == float(agreed["teacher_entropy"]) == 0
    assert math.isclose(float(apart["shared_entropy"]), math.log(8), rel_tol=1e-6)
    assert float(agreed["shared_entropy"]) == 0


@pytest.mark.parametrize("block", [1, 12, 2**25])
def test_the_entropy_by_blocks_is_that_of_all_logits_at_once(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = generator(0)
    rows = torch.randn(7, 3, generator=draws).double().requires_grad_()
    prototypes = torch.randn(5, 3, generator=draws).double().requires_grad_()
    target = torch.rand(7, 5, generator=draws).double()  # rows need not sum to 1
    weights = torch.rand(7, generator=draws).double()
    logs = (rows @ prototypes.mT / 0.1).log_softmax(dim=1)
    whole = -(weights * (target * logs).sum(dim=1)).sum()
    expected = torch.autograd.grad(2 * whole, [rows, prototypes])
    monkeypatch.setattr(assignment, "BLOCK", block)
    found = prototype_entropy(rows, prototypes, target.__getitem__, weights, 0.1)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=0)
    for slope, wanted in zip(
        torch.autograd.grad(2 * found, [rows, prototypes]), expected, strict=True
    ):
        torch.testing.assert_close(slope, wanted, rtol=1e-10, atol=1e-12)


def test_no_rows_have_no_entropy_and_a_gradient_of_zero() -> None:
    rows, prototypes = torch.zeros(0, 3, requires_grad=True), torch.ones(5, 3, requires_grad=True)
    loss = prototype_entropy(rows, prototypes, lambda some: rows[some], torch.zeros(0), 0.1)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0 and prototypes.grad is not None
    assert torch.equal(prototypes.grad, torch.zeros(5, 3))
