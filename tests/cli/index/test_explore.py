"""`twinlens index cluster`, `select` and `outliers` with the toy bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from twinlens.index.collection import Collection
from twinlens.index.writer import Writer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def labelled(cli: Run, built: Path) -> Path:
    """Thirty items around each of the squares, with the colour as label, one of them wrong."""
    rng = np.random.default_rng(3)
    with Collection(built) as reader:
        centres = {name: reader.embedding(f"{name}.png") for name in ("red", "green", "blue")}
    with Writer(built) as writer:
        for name, centre in centres.items():
            rows = centre + 0.05 * rng.standard_normal((30, len(centre))).astype(np.float32)
            labels = [name] * 30
            if name == "red":
                labels[7] = "blue"
            ids = [f"{name}{n}" for n in range(30)]
            writer.upsert(ids, rows, [{"label": label} for label in labels])
    return built


def test_clusters_are_named_by_words_near_them(cli: Run, labelled: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "clusters.html"
    options = ("-n", 3, "--names", 1, "--sheet", sheet)
    code, text, err = cli("index", "cluster", labelled, *options, "--json")
    assert code == 0, err
    groups = json.loads(text)
    assert {group["names"][0] for group in groups} == {"red", "green", "blue"}
    assert all(group["ids"][0].startswith(group["names"][0]) for group in groups)
    assert [group["count"] for group in groups] == [31, 31, 31]
    assert "<h2>red (31)</h2>" in sheet.read_text()
    code, text, _ = cli("index", "cluster", labelled)
    assert code == 0
    assert len(text.splitlines()) == 7  # about the root of half of 93


def test_a_diverse_subset_has_one_of_each(cli: Run, labelled: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "subset.html"
    code, text, err = cli("index", "select", labelled, "-n", 3, "--sheet", sheet)
    assert code == 0, err
    assert sorted(name[:3] for name in text.splitlines()) == ["blu", "gre", "red"]
    assert "3 of 93; every other item has a cosine of 0." in err
    told = json.loads(cli("index", "select", labelled, "-n", 100, "--json")[1])
    assert (len(told["ids"]), told["covered"]) == (93, 1.0)


def test_outliers_and_wrong_labels_are_printed(cli: Run, labelled: Path, tmp_path: Path) -> None:
    with Writer(labelled) as writer:
        writer.upsert(["odd"], -np.ones((1, 16)))
    sheet = tmp_path / "outliers.html"
    code, text, err = cli("index", "outliers", labelled, "-n", 2, "--sheet", sheet)
    assert code == 0, err
    assert text.splitlines()[0].startswith("odd  ")
    assert sheet.exists()
    code, text, _ = cli("index", "outliers", labelled, "--label", "label")
    assert text == "red7  blue, neighbours: red (100%)\n"
    told = json.loads(cli("index", "outliers", labelled, "--label", "label", "--json")[1])
    assert (told[0]["id"], told[0]["expected"]) == ("red7", "red")
    assert cli("index", "outliers", labelled, "--label", "colour")[0] == 2
