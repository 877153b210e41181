"""A whole evaluation of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.training.family import small_config, write_images
from twinlens.training.data.records import Record
from twinlens.training.evaluation.embeddings import EmbeddingSet
from twinlens.training.evaluation.report import evaluate_encoder, halve
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent


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
