"""kNN: the vote, small banks, and its time on a large one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.training.evaluation.clusters import clusters
from twinlens.training.evaluation.knn import knn_accuracy, knn_predict


def test_knn_votes_as_the_formula_says() -> None:
    bank, labels = clusters(60, 6, 3, 1.5)
    queries, _ = clusters(20, 6, 3, 1.5, seed=1)
    found = knn_predict(bank, labels, queries, classes=3, k=7, temperature=0.1)
    for query, answer in zip(queries.numpy(), found.tolist(), strict=True):
        rows = bank.numpy()
        cosine = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        votes = np.zeros(3)
        for index in np.argsort(-cosine)[:7]:
            votes[labels[index]] += np.exp(cosine[index] / 0.1)
        assert answer == votes.argmax()


def test_knn_of_few_images_takes_what_there_is() -> None:
    bank, labels = clusters(3, 4, 2, 0.1)
    assert knn_accuracy(bank, labels, bank, labels, k=200) >= 2 / 3


@pytest.mark.slow
def test_knn_of_fifty_thousand_takes_seconds() -> None:
    """The bar is 20 s on two undisturbed cores; counted in CPU seconds."""
    bank, labels = clusters(50_000, 512, 10, 2.0)
    queries, truth = clusters(10_000, 512, 10, 2.0, seed=1)
    began = time.process_time()
    knn_accuracy(bank, labels, queries, truth, k=20)
    assert (time.process_time() - began) / 2 < 20
