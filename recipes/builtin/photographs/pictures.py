"""The pictures that fit the gates and calibrate int8, with their features by both towers.

Only training halves. Every second picture of `imagenet1k_1perclass` teaches the gate what a
photograph is and nothing else, since the tower very likely saw them in its own training.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from recipes.builtin.photographs.space import Rows
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.manifest import ImageSpec
from twinlens.training.progress import Display

SAMPLES = {  # archive and number of its pictures
    "emoji": ("emoji64/train.zip", 499),
    "icons": ("icons64/train.zip", 302),
    "clothes": ("clothing96/train.zip", 430),
    "cifar": ("cifar10_jpeg/train.zip", 602),
    "imagenet": ("imagenet1k_1perclass/all.zip", 500),
}
DRAWN, PHOTOS, CLOTHES = ("emoji", "icons"), ("cifar", "imagenet"), "clothes"
CALIBRATING = ("emoji", "icons", "clothes", "cifar")
_CALIBRATING_EACH = 24
_BATCH = 8


Look = Callable[[Tensor], Tensor]  # pixels of 0..1 to features


def keep_features(
    data: Path, look: Look, spec: ImageSpec, file: Path, display: Display
) -> dict[str, Rows]:
    """Return the features of every sample, computed once."""
    if not file.exists():
        found = {}
        for name in SAMPLES:
            display.say(f"looking at {SAMPLES[name][1]} pictures: {name}")
            found[name] = _look(data, name, look, Preprocessor(spec))
        np.savez(file, allow_pickle=False, **found)
    with np.load(file) as stored:
        return {name: stored[name] for name in SAMPLES}


def write_calibration(data: Path, folder: Path) -> Path:
    """Write the first pictures of the clean samples into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CALIBRATING:
        for number, content in zip(range(_CALIBRATING_EACH), read_sample(data, name), strict=False):
            image = Image.open(io.BytesIO(content)).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            Image.alpha_composite(white, image).convert("RGB").save(folder / f"{name}{number}.png")
    return folder


def read_sample(data: Path, name: str) -> Iterator[bytes]:
    """Yield the encoded pictures of a sample, drawn at random, the same at every call."""
    archive, count = SAMPLES[name]
    with zipfile.ZipFile(data / archive) as stored:
        rows = [json.loads(line) for line in stored.read("index.jsonl").decode().splitlines()]
        for i in np.random.default_rng(0).permutation(len(rows))[:count]:
            yield stored.read(rows[i]["file"])


def read_labels(data: Path, name: str) -> NDArray[np.int64]:
    """Return the class of each picture of an ImageNet sample."""
    archive, count = SAMPLES[name]
    with zipfile.ZipFile(data / archive) as stored:
        rows = [json.loads(line) for line in stored.read("index.jsonl").decode().splitlines()]
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    return np.array([rows[i]["label"] for i in chosen])


@torch.no_grad()
def _look(data: Path, name: str, look: Look, preprocess: Preprocessor) -> Rows:
    pixels = np.stack([preprocess(content) for content in read_sample(data, name)])
    batches = (pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH))
    return torch.cat([look(_scale(batch)) for batch in batches]).numpy()


def _scale(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
