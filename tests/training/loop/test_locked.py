"""A locked image tower answers once: to what is served, by weights, data and view."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.family import small_config, with_settings, write_images
from tests.training.loop.test_freezing import Listener
from tests.training.loop.test_resume import Died, assert_same_bytes, last_tensors
from tests.training.test_served import some_images
from twinlens.bundle.encoder import open_bundle
from twinlens.errors import InputError
from twinlens.training.config import Config, apply_sets
from twinlens.training.evaluation.embeddings import RunEmbedder
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.loop.locked import FOLDER
from twinlens.training.loop.loop import train
from twinlens.training.loop.row_store import RowStore
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.checkpoints import OPTIMIZER, WEIGHTS
from twinlens.training.runs.run import open_run


class DiesTraining(Silent):
    """A display that ends the run at a step, but not while the tower answers."""

    def __init__(self, step: int) -> None:
        self.step = step

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        if what not in ("decoding", "embedding") and done == self.step:
            raise Died


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / FOLDER


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_images(tmp_path / "data", 20))


def locked(method: str = "clip", **settings: Any) -> Config:
    return small_config(f"{method}-locked", encoder="resnet-tiny", log_every=1, **settings)


@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_only_the_text_side_trains_on_what_the_served_tower_answers(
    data: str, tmp_path: Path, cache: Path, method: str
) -> None:
    train(with_settings(locked(method), lr=0.0), data, tmp_path / "still")
    train(locked(method), data, tmp_path / "run")
    before, after = (last_tensors(tmp_path / name, WEIGHTS) for name in ("still", "run"))
    moved = {
        name.split("/")[1].split(".")[0] for name in after if (before[name] != after[name]).any()
    }
    assert "image" not in moved and {"text", "text_projection"} <= moved
    assert not [
        name
        for name in last_tensors(tmp_path / "run", OPTIMIZER)
        if name.startswith("optimizer/image.")
    ]
    (path,) = cache.iterdir()  # one for both runs: weights, data and view are the same
    found, run = RowStore(path, 20).read().rows["rows"][:, 0], open_run(tmp_path / "run")
    embedder = RunEmbedder(run)
    image = (tmp_path / "data").rglob("*.png")
    first = sorted(image)[0]
    pixels = torch.from_numpy(embedder.preprocessor(first.read_bytes())[None]).permute(0, 3, 1, 2)
    mean, std = (
        torch.tensor(row)[:, None, None]
        for row in (run.config.settings.mean, run.config.settings.std)
    )
    with torch.no_grad():
        expected = run.image_encoder((pixels.float() / 255 - mean) / std)[0]
    gaps = (found - expected).abs().amax(dim=1)
    assert gaps.min() < 1e-4 < gaps.median()


def test_the_answers_are_read_again_and_made_anew_for_another_view_or_tower(
    data: str, tmp_path: Path, cache: Path
) -> None:
    heard = [Listener() for _ in range(4)]
    train(locked(), data, tmp_path / "a", heard[0])
    train(with_settings(locked(), lr=0.01), data, tmp_path / "b", heard[1])
    assert any("are kept in" in line for line in heard[0].lines)
    assert any("embeddings from" in line for line in heard[1].lines)
    train(with_settings(locked(), interpolation="nearest"), data, tmp_path / "c", heard[2])
    train(with_settings(locked(), seed=5), data, tmp_path / "d", heard[3])
    assert len(list(cache.iterdir())) == 3
    assert any("random weights" in line for line in heard[0].lines)


def test_a_locked_run_that_died_resumes_bit_for_bit(data: str, tmp_path: Path) -> None:
    config = with_settings(locked(), steps=5, save_every=2)
    train(config, data, tmp_path / "whole")
    with pytest.raises(Died):
        train(config, data, tmp_path / "cut", DiesTraining(3))
    train(config, data, tmp_path / "cut")
    assert_same_bytes(tmp_path / "whole", tmp_path / "cut")


def test_a_picture_that_cannot_be_read_is_left_out(data: str, tmp_path: Path) -> None:
    broken = sorted(Path(data).rglob("*.png"))[3]
    broken.write_bytes(b"no picture")
    train(locked(), data, tmp_path / "run")
    listed = (tmp_path / "run" / "bad_images.jsonl").read_text().splitlines()
    assert len(listed) == 1 and broken.name in listed[0]


def test_a_locked_run_exports_with_both_towers(data: str, tmp_path: Path) -> None:
    train(locked(), data, tmp_path / "run")
    export_encoder(
        load_source(str(tmp_path / "run"), SourceOptions()), tmp_path / "a", precisions=("fp32",)
    )
    bundle, embedder = open_bundle(tmp_path / "a"), RunEmbedder(open_run(tmp_path / "run"))
    pixels = np.stack([embedder.preprocessor(image) for image in some_images()])
    for ours, theirs in (
        (bundle.embed_images(some_images()), embedder.images(pixels)),
        (bundle.embed_texts(["a red square", "else"]), embedder.texts(["a red square", "else"])),
    ):
        assert torch.cosine_similarity(torch.from_numpy(np.asarray(ours)), theirs).min() > 0.9999


def test_shards_of_a_locked_tower_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--set parallel=ddp"):
        train(locked(parallel="fsdp"), str(tmp_path / "no-data"), tmp_path / "run")


def test_the_recipe_locks_the_tower_and_keeps_its_space() -> None:
    config = apply_sets(open_recipe("clip", "lit"), ["epochs=3"])
    assert config.objective.locked and config.objective.dim == 0
