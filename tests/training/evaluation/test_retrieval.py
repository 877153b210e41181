"""Retrieval by captions and zero-shot classes."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.evaluation.retrieval import recall_at, retrieval_recalls, zero_shot_accuracy


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
