"""Each measure against an independent one: brute force, scikit-learn, closed forms."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.family import small_config, write_images
from twinlens.training.data.records import Record
from twinlens.training.evaluation.embeddings import EmbeddingSet
from twinlens.training.evaluation.few_shot import few_shot_accuracy
from twinlens.training.evaluation.knn import knn_accuracy, knn_predict
from twinlens.training.evaluation.linear import probe_accuracy
from twinlens.training.evaluation.report import evaluate_encoder, halve
from twinlens.training.evaluation.retrieval import recall_at, retrieval_recalls, zero_shot_accuracy
from twinlens.training.evaluation.spectrum import measure_spectrum
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.seeds import generator


def clusters(n: int, d: int, classes: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = generator(seed)
    centres = torch.randn(classes, d, generator=generator(99))
    labels = torch.randint(0, classes, (n,), generator=draws)
    return centres[labels] + noise * torch.randn(n, d, generator=draws), labels


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


def test_few_shot_needs_enough_of_each_class_and_grows_with_the_shots() -> None:
    bank, labels = clusters(400, 16, 4, 2.0)
    queries, truth = clusters(400, 16, 4, 2.0, seed=1)
    one, ten = (
        few_shot_accuracy(bank, labels, queries, truth, shots=shots) or 0.0 for shots in (1, 10)
    )
    assert 0.25 < one < ten <= 1
    assert few_shot_accuracy(bank[:8], labels[:8], queries, truth, shots=10) is None


def test_recall_counts_a_hit_among_the_first_k() -> None:
    candidates = torch.eye(4)
    queries = torch.tensor([[1.0, 0.5, 0.1, 0.0], [0.0, 0.1, 0.5, 1.0]])
    found = recall_at(queries, candidates, [{1}, {3}], (1, 2, 4))
    assert found == {1: 0.5, 2: 1.0, 4: 1.0}


def test_equal_captions_are_one_text() -> None:
    images = torch.eye(3)
    captions = [("a cat",), ("a cat", "a pet"), ("a dog",)]
    texts = ["a cat", "a dog", "a pet"]
    rows = torch.stack([images[0] + images[1], images[2], images[1] + 0.1])
    found = retrieval_recalls(images, captions, texts, rows)
    assert found["image_to_text_r1"] == 1.0 and found["text_to_image_r1"] == 1.0


def test_zero_shot_takes_the_nearest_class() -> None:
    images = torch.tensor([[2.0, 0.1], [0.1, 3.0], [1.0, 0.9]])
    assert zero_shot_accuracy(images, torch.eye(2), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


def test_the_effective_rank_of_k_equal_directions_is_k() -> None:
    rows = torch.cat([torch.eye(6), -torch.eye(6)])
    spectrum = measure_spectrum(rows)
    assert spectrum.effective_rank == pytest.approx(6, rel=1e-4)
    np.testing.assert_allclose(spectrum.singular, np.sqrt(2) * np.ones(6), rtol=1e-4)


def test_healthy_rows_spread_near_one_and_collapsed_rows_near_zero() -> None:
    healthy = torch.randn(2000, 64, generator=generator(0))
    assert measure_spectrum(healthy).spread == pytest.approx(1, abs=0.05)
    collapsed = torch.ones(500, 64) + 1e-3 * healthy[:500]
    assert measure_spectrum(collapsed).spread < 0.01
    assert measure_spectrum(torch.ones(50, 8)).effective_rank == pytest.approx(1)


def test_singular_values_are_those_of_an_svd() -> None:
    rows = torch.randn(40, 12, generator=generator(0))
    unit = torch.nn.functional.normalize(rows, dim=1)
    expected = torch.linalg.svdvals(unit - unit.mean(dim=0))
    torch.testing.assert_close(measure_spectrum(rows).singular, expected, rtol=1e-4, atol=1e-5)


def test_a_run_is_evaluated_whole(tmp_path: Path) -> None:
    """The classes are three colours: any encoder tells them apart."""
    data = str(write_images(tmp_path / "data", 60))
    train(small_config("clip", steps=2), data, tmp_path / "run")
    found = evaluate_encoder(str(tmp_path / "run"), data, bank="", limit=0, display=Silent())
    assert found["images"] == 60 and found["classes"] == 3
    assert found["bank"] == found["queries"] == 30
    assert found["knn"] > 90 and found["linear"] > 90 and found["few_shot_5"] > 80
    assert {"zero_shot", "image_to_text_r1", "text_to_image_r10", "effective_rank"} <= set(found)
    assert (tmp_path / "run/evaluation.json").is_file()


def test_unlabelled_images_have_a_spectrum_and_no_accuracy(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 30)
    train(small_config("simclr", steps=2, batch=4), str(data / "red"), tmp_path / "run")
    found = evaluate_encoder(
        str(tmp_path / "run"), str(data / "red"), bank="", limit=0, display=Silent()
    )
    assert "effective_rank" in found and "knn" not in found


def test_halves_share_classes_fairly_where_the_names_alternate() -> None:
    records = [Record(f"{place:02}", 1, "ab"[place >= 30]) for place in range(60)]
    light = torch.arange(60) % 2  # every second file, in the order of names, is light
    found = EmbeddingSet(torch.stack([light, torch.arange(60)], dim=1).float(), records, 0)
    bank, queries = halve(found)
    assert sorted(r.key for half in (bank, queries) for r in half.records) == [
        r.key for r in records
    ]
    for half in (bank, queries):
        assert [record.label for record in half.records].count("a") == 15
        assert 9 <= int(half.rows[:, 0].sum()) <= 21
        assert half.rows[:, 1].tolist() == [int(record.key) for record in half.records]
    assert torch.equal(halve(found)[0].rows, bank.rows)
