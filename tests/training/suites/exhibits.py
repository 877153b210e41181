"""What suites are tested on: captioned pictures, random rows, a reader of the answers."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image

from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.bundle.image.image_source import ImageSource
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.training.suites.examinee import EmbeddedSheet, Examinee
from twinlens.training.suites.material import Exhibit, Material
from twinlens.training.suites.sheet import Sheet

SOFTMAX = SimilaritySpec("softmax", 100.0, 0.0, "")
CLASSES = ("lemon", "tomato", "carrot", "frog", "whale", "house")
PLACES = ("table", "chair", "bed", "floor", "bench")
COLOURS = ("red", "blue", "green", "white")
LANGUAGES = ("de", "ja")
TEMPLATES = ("{}", "a photo of a {}")


def make_material(count: int = 120, *, seed: int = 5) -> Material:
    """Return pictures of noise, each with a label and a caption of its own."""
    rng = np.random.default_rng(seed)
    exhibits = []
    for place in range(count):
        label, other = rng.choice(CLASSES, 2, replace=False)
        colour, second = rng.choice(COLOURS, 2, replace=False)
        caption = (
            f"A {colour} {label} on a {rng.choice(PLACES)} and a {second} {other}"
            f" near the {rng.choice(PLACES)}"
        )
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(256, size=(24, 24, 3), dtype=np.uint8)).save(buffer, "PNG")
        key = f"{place // 2}/{place % 2}.png"
        exhibits.append(Exhibit(key, buffer.getvalue(), str(label), (caption,)))
    captions = [exhibit.captions[0] for exhibit in exhibits]
    translations = {
        language: {caption: f"{caption} ({language})" for caption in captions}
        for language in LANGUAGES
    }
    return Material("noise", tuple(exhibits), translations=translations)


def draw_rows(sheet: Sheet, seed: int, dimensions: int = 64) -> EmbeddedSheet:
    """Return the rows of an encoder that knows nothing."""
    rng = np.random.default_rng(seed)
    pictures, texts = (
        normalise_rows(rng.standard_normal((len(items), dimensions)).astype(np.float32))
        for items in (sheet.pictures, sheet.texts)
    )
    return EmbeddedSheet(pictures, texts, SOFTMAX)


def read_answers(sheet: Sheet) -> Examinee:
    """Return an encoder that was shown the answers: what belongs together shares an axis."""
    axes: dict[object, set[int]] = defaultdict(set)
    for axis, question in enumerate(sheet.questions):
        items = [(question.asks, question.query)]
        items += [(question.answers, number) for number in question.right]
        for kind, number in items:
            keys = [key_of(sheet.pictures[number])] if kind == "picture" else sheet.texts[number]
            for key in keys:
                axes[key].add(axis)

    def embed(keys: Sequence[object]) -> Rows:
        rows = np.zeros((len(keys), len(sheet.questions)), np.float32)
        for row, key in zip(rows, keys, strict=True):
            row[list(axes[key])] = 1
        return normalise_rows(rows)

    return Examinee(
        "reader",
        TEMPLATES,
        SOFTMAX,
        lambda pictures: embed([key_of(picture) for picture in pictures]),
        lambda texts: embed(list(texts)),
    )


def key_of(picture: ImageSource) -> str:
    """Return a name of a picture by its content."""
    data = picture.tobytes() if isinstance(picture, Image.Image) else bytes(picture)  # type: ignore[arg-type]
    return hashlib.sha256(data).hexdigest()
