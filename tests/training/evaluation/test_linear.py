"""The linear probe against scikit-learn's."""

from __future__ import annotations

import pytest

from tests.training.evaluation.clusters import clusters
from twinlens.training.evaluation.linear import probe_accuracy


@pytest.mark.parametrize("noise", [1.0, 2.5])
def test_the_linear_probe_agrees_with_scikit_learn(noise: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    bank, labels = clusters(1500, 24, 5, noise)
    queries, truth = clusters(2000, 24, 5, noise, seed=1)
    centre, spread = bank.mean(dim=0), bank.std(dim=0, correction=0)
    theirs = linear_model.LogisticRegression(C=1.0, max_iter=2000, tol=1e-8)
    theirs.fit(((bank - centre) / spread).numpy(), labels.numpy())
    expected = theirs.score(((queries - centre) / spread).numpy(), truth.numpy())
    assert abs(probe_accuracy(bank, labels, queries, truth) - expected) <= 0.001
