"""Few-shot accuracy by the number of shots."""

from __future__ import annotations

from tests.training.evaluation.clusters import clusters
from twinlens.training.evaluation.few_shot import few_shot_accuracy


def test_few_shot_needs_enough_of_each_class_and_grows_with_the_shots() -> None:
    bank, labels = clusters(400, 16, 4, 2.0)
    queries, truth = clusters(400, 16, 4, 2.0, seed=1)
    one, ten = (
        few_shot_accuracy(bank, labels, queries, truth, shots=shots) or 0.0 for shots in (1, 10)
    )
    assert 0.25 < one < ten <= 1
    assert few_shot_accuracy(bank[:8], labels[:8], queries, truth, shots=10) is None
