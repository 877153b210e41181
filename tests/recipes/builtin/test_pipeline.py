"""The whole way: data on disk to a bundle; and a minute of the real thing against chance."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import twinlens
from recipes.builtin.corpus import Corpus, Part, draw_shapes, read_corpus
from recipes.builtin.evaluation import rank, recall
from recipes.builtin.packaging import PackagedEncoder
from recipes.builtin.pipeline import HELD_OUT, make, train
from recipes.builtin.recipe import Recipe
from recipes.builtin.sampling import Mix
from recipes.builtin.towers import IMAGE_SIZE
from twinlens.errors import InputError
from twinlens.training.progress import Silent

STYLES = {"noto": "noto", "flat": "fluent_3d", "line": "blobmoji"}


def _write_zip(path: Path, part: Part, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        named = [{**row, "file": f"{i}.png"} for i, row in enumerate(rows)]
        archive.writestr("index.jsonl", "\n".join(json.dumps(row) for row in named))
        concepts = list(part.concepts.values())
        if concepts:
            archive.writestr("meta.jsonl", "\n".join(json.dumps(row) for row in concepts))
        for row, pixels in zip(named, part.pixels, strict=True):
            archive.writestr(row["file"], _encode(pixels))


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def data(corpus: Corpus, tmp_path: Path) -> Path:
    """The tiny corpus as archives, its styles named as real ones; train and test alike."""
    folder = tmp_path / "data"
    folder.mkdir()
    emoji = [{**row, "style": STYLES[row["style"]]} for row in corpus.emoji.rows]
    emoji += [{**row, "style": "openmoji_color"} for row in emoji[:3]]
    pixels = np.concatenate([corpus.emoji.pixels, corpus.emoji.pixels[:3]])
    for split in ("train", "test"):
        part = Part(pixels, emoji, corpus.emoji.concepts)
        _write_zip(folder / "emoji64" / f"{split}.zip", part, emoji)
        _write_zip(folder / "icons64" / f"{split}.zip", corpus.icons, corpus.icons.rows)
        _write_zip(folder / "clothing96" / f"{split}.zip", corpus.clothes, corpus.clothes.rows)
    return folder


def test_archives_are_read_back_without_share_alike_and_held_out_styles(
    data: Path, corpus: Corpus
) -> None:
    read = read_corpus(data, "train", without_styles=["blobmoji"])
    assert {row["style"] for row in read.emoji.rows} == {"noto", "fluent_3d"}
    noto = [i for i, row in enumerate(corpus.emoji.rows) if row["style"] == "noto"]
    first = [i for i, row in enumerate(read.emoji.rows) if row["style"] == "noto"]
    assert (read.emoji.pixels[first] == corpus.emoji.pixels[noto]).all()
    assert len(read.icons) == 20 + len(draw_shapes(64))  # what the code draws itself


def test_a_style_that_is_not_there_cannot_be_held_out(data: Path) -> None:
    with pytest.raises(InputError, match=r"held_out=notto: no such style; the data has blobmoji"):
        read_corpus(data, "train", without_styles=["notto"])


@pytest.fixture
def short() -> Recipe:
    """Two steps without blobmoji, one with it."""
    mix = Mix(concepts=6, styles=2, icons=6, clothes=4, crowds=1, crowd=3)
    return Recipe(steps=2, finish=1, warmup=1, mix=mix, late=mix, polish=1)


def test_a_held_out_style_is_measured_before_it_is_trained_on(
    data: Path, short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def remember(shipped: PackagedEncoder, folder: Path) -> dict[str, float]:
        steps.append(json.loads((tmp_path / "run/progress.json").read_text())["step"])
        return {"a": 1.0}

    monkeypatch.setattr("recipes.builtin.pipeline.measure", remember)
    train(data, tmp_path / "run", short, Silent())
    assert steps == [2]
    assert json.loads((tmp_path / "run" / HELD_OUT).read_text()) == {"a": 1.0}
    assert json.loads((tmp_path / "run/progress.json").read_text())["step"] == 3
    train(data, tmp_path / "run", short, Silent())  # finished: nothing is done again
    assert steps == [2]


@pytest.mark.slow
def test_the_whole_pipeline_ends_in_a_bundle_with_both_measurements(
    data: Path, short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([{"seen_blobmoji_r1": 1.0}, {"seen_blobmoji_r1": 2.0}])
    monkeypatch.setattr("recipes.builtin.pipeline.measure", lambda shipped, folder: next(found))
    manifest = make(data, tmp_path / "run", short, tmp_path / "bundle", Silent())
    assert manifest.provenance["metrics"] == {
        "shipped": {"seen_blobmoji_r1": 2.0},
        "style_held_out": {"seen_blobmoji_r1": 1.0},
    }
    encoder = twinlens.open_bundle(tmp_path / "bundle")
    assert encoder.embed_texts(["dog"]).shape == (1, 256)


@pytest.mark.slow
def test_a_minute_of_training_beats_chance_by_far(tmp_path: Path) -> None:
    """Sixty steps, counted: a busy machine takes longer and learns as much."""
    named = os.environ.get("TWINLENS_DATA")
    if not named:
        pytest.skip("TWINLENS_DATA is not set")
    mix = Mix(concepts=64, icons=32, clothes=16, crowds=0)
    recipe = dataclasses.replace(
        Recipe(), steps=60, finish=0, held_out=(), warmup=10, mix=mix, polish=0
    )
    train(Path(named), tmp_path, recipe, Silent())
    seen = read_corpus(Path(named), "train", side=IMAGE_SIZE).emoji
    noto = seen.pick(lambda row: row["style"] == "noto")
    shipped = PackagedEncoder(tmp_path)
    texts = shipped.embed_texts([str(row["label"]) for row in noto.rows])
    ranks = rank(texts, shipped.encode_pixels(noto.pixels), np.arange(len(noto)))
    chance = 5 / len(noto)
    assert recall(ranks, 5) > 5 * chance
