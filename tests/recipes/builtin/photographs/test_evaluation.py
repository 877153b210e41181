"""Measures of photographs, with their intervals."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from recipes.builtin.photographs.evaluation import (
    CIFAR,
    average,
    average_precision,
    measure_captions,
    measure_cifar,
    precise,
    share,
)
from recipes.builtin.photographs.galleries import rank
from recipes.builtin.photographs.space import Rows, unit

THINGS = ["cat", "dog", "boat", *CIFAR]


class Told:
    """An encoder that reads the thing out of a picture's bytes, or a text's last word."""

    def embed_images(self, images: Sequence[bytes]) -> Rows:
        return self.embed_texts([image.decode() for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        rows = np.zeros((len(texts), len(THINGS)), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[[text.split()[-1] == thing for thing in THINGS]] = 1
        return unit(rows + 1e-3)


def write_pictures(archive: Path, rows: Sequence[Mapping[str, object]]) -> None:
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as stored:
        for row in rows:
            stored.writestr(str(row["file"]), str(row["shows"]))
        stored.writestr("index.jsonl", "\n".join(json.dumps(row) for row in rows))


def test_an_encoder_that_knows_everything_is_right_everywhere(tmp_path: Path) -> None:
    write_pictures(
        tmp_path / "coco_mini" / "test.zip",
        [
            {"file": f"{i}.jpg", "shows": thing, "captions": [f"a {thing}"], "objects": [thing]}
            for i, thing in enumerate(["cat", "dog", "boat"])
        ]
        + [{"file": f"x{i}", "shows": "cat", "captions": [], "objects": ["cat"]} for i in range(2)],
    )
    found = measure_captions(Told(), tmp_path)
    assert found["coco_caption_r1"].value == pytest.approx(66.7)  # three cats tie
    assert found["coco_caption_r5"].value == 100
    assert found["coco_objects_map"].value == 100


def test_classes_are_counted_with_their_interval(tmp_path: Path) -> None:
    rows = [{"file": f"{i}", "shows": CIFAR[i % 10], "cls": CIFAR[i % 10]} for i in range(40)]
    rows[0]["shows"] = "ship"
    write_pictures(tmp_path / "cifar10_jpeg" / "test.zip", rows)
    found = measure_cifar(Told(), tmp_path, 1)["cifar10_jpeg_top1"]
    assert found.value == 97.5
    assert found.low < 90 < 97.5 < found.high < 100
    assert found.count == 40


def test_a_share_of_nothing_or_all_has_an_interval_too() -> None:
    assert share(np.zeros(20, bool)).high == pytest.approx(16.1)
    assert share(np.ones(20, bool)).low == pytest.approx(83.9)


def test_relevant_pictures_come_last_among_equal_scores() -> None:
    scores = np.array([1.0, 0.5, 0.5], np.float32)
    assert precise(scores, np.array([True, True, False])) == pytest.approx((1 + 2 / 3) / 2)


def test_a_mean_of_equal_values_has_no_width() -> None:
    found = average_precision([0.5] * 10)
    assert (found.value, found.low, found.high) == (50, 50, 50)


def test_templates_are_averaged() -> None:
    bank = average(Told(), ["cat", "dog"], ("{}", "a photo of a {}"))
    assert (bank @ Told().embed_texts(["cat", "dog"]).T).argmax(1).tolist() == [0, 1]


def test_ties_count_against_the_right_picture() -> None:
    rows = np.ones((2, 1), np.float32)
    assert rank(rows, rows, np.arange(2)).tolist() == [1, 1]
