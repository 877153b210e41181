"""Every recipe at 224 pixels takes two steps on a CPU: from ImageNet's folders, and from shards."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.family import ALL
from twinlens.training.config import Config, apply_sets, known_keys
from twinlens.training.loop.loop import train
from twinlens.training.recipes import list_recipes, open_recipe
from twinlens.training.runs.logs import read_log
from twinlens.training.runs.teachers import learn_from

RECIPES = [
    (method, name)
    for method in ALL
    for name, recipe in list_recipes(method).items()
    if recipe().settings.image_size == 224
]
SYNSETS = ("n01440764", "n02084071")
IMAGES = 6
# What does not fit a CPU, or would be fetched; all else is the recipe's own.
SMALL = {
    "batch": "4", "steps": "2", "accumulate": "1", "chunk": "0", "warmup": "1", "device": "cpu",
    "splits": "2", "tokenizer_steps": "2", "doctor": "false", "log_every": "1", "threads": "1",
    "monitor_share": "0", "keep": "1", "stored_size": "224",
}  # fmt: skip


def draw_photo(index: int) -> bytes:
    draws = np.random.default_rng(index)
    coarse = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def write_folders(root: Path) -> Path:
    """ImageNet's layout, with a caption beside each image."""
    for index in range(IMAGES):
        place = root / SYNSETS[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{place.name}_{index}.JPEG").write_bytes(draw_photo(index))
        (place / f"{place.name}_{index}.txt").write_text(f"photograph {index} of {place.name}\n")
    return root


def write_shards(root: Path) -> Path:
    """WebDataset's layout: two shards of samples with image, class and caption."""
    root.mkdir()
    for shard in range(2):
        with tarfile.open(root / f"train-{shard:06}.tar", "w") as archive:
            for index in range(shard, IMAGES, 2):
                parts = {"jpg": draw_photo(index), "cls": str(index % 3).encode()}
                for kind, content in (parts | {"txt": f"photograph {index}".encode()}).items():
                    entry = tarfile.TarInfo(f"{index:06}.{kind}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return root


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("imagenet")
    return write_folders(root / "train"), write_shards(root / "shards")


def fit_to_cpu(method: str, name: str) -> Config:
    config = open_recipe(method, name)
    known = {*known_keys(config.objective), *known_keys(config.settings)}
    sets = [f"{key}={value}" for key, value in SMALL.items() if key in known]
    config = apply_sets(config, sets)
    if config.settings.tokenizer == "clip":
        config = apply_sets(config, ["tokenizer=captions"])
    if hasattr(config.objective, "teachers"):
        config = apply_sets(learn_from(config, "builtin"), ["teachers.views=1"])
    return config


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name"), RECIPES, ids=map("-".join, RECIPES))
def test_a_recipe_at_224_pixels_takes_two_steps(
    method: str, name: str, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    config = fit_to_cpu(method, name)
    where = sources[RECIPES.index((method, name)) % 2]
    run = train(config, str(where), tmp_path / "run")
    losses = [float(row["loss"]) for row in read_log(tmp_path / "run")]
    shutil.rmtree(tmp_path)  # weights and moments of a ViT-B are more than a gigabyte
    assert run.step == 2 and len(losses) == 2
    assert np.isfinite(losses).all()


def test_every_method_has_a_recipe_at_224_pixels() -> None:
    assert {method for method, _ in RECIPES} == set(ALL)
