"""Preprocessing and tokenizer on real files, for cases that synthetic data misses."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.bundle.image.made_images import ONE, ZERO, spec
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.text.clip_tokenizer import ClipTokenizer
from twinlens.bundle.text.clip_vocabulary import build_vocabulary

DATA = os.environ.get("TWINLENS_DATA")
SETS = ["coco_mini", "imagenet1k_1perclass", "emoji64", "icons64", "clothing96", "nlvr1"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="TWINLENS_DATA is not set: no real data to read"),
]


def read_files(name: str, most: int) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Yield up to `most` files of a data set, evenly spaced, with their rows."""
    for path in sorted((Path(DATA or "") / name).glob("*.zip"))[:1]:
        with zipfile.ZipFile(path) as archive:
            rows = [json.loads(line) for line in archive.read("index.jsonl").splitlines()]
            for row in rows[:: max(1, len(rows) // most)]:
                yield row["file"], archive.read(row["file"]), row


@pytest.mark.parametrize("name", SETS)
def test_real_images_equal_open_clips_transform_and_fast_stays_close(name: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    reference = open_clip.image_transform(96, is_train=False, mean=ZERO, std=ONE)
    frame = spec(height=96, width=96, resize_to=96)  # smaller than most of the images
    exact, fast = Preprocessor(frame), Preprocessor(frame, fast=True)
    seen, means = 0, []
    for file, content, _ in read_files(name, 150):
        upright = ImageOps.exif_transpose(Image.open(BytesIO(content)))
        expected = np.rint(reference(upright).numpy().transpose(1, 2, 0) * 255)
        given = exact(content)
        assert np.abs(given - expected).max() <= 1, file
        means.append(float(np.abs(fast(content).astype(int) - given).mean()))
        seen += 1
    assert seen > 100
    assert np.mean(means) < 1.5, max(means)


@pytest.mark.parametrize("name", ["coco_mini", "emoji64", "nlvr1"])
def test_real_captions_get_open_clips_ids(name: str) -> None:
    reference = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    tokenizer = ClipTokenizer(build_vocabulary(list(reference.bpe_ranks)), 77)
    texts = [text for _, _, row in read_files(name, 3_000) for text in find_strings(row)]
    assert len(texts) > 500
    ids = tokenizer.batch(texts, cut=False)
    np.testing.assert_array_equal(ids, reference(texts).numpy())


def find_strings(value: Any) -> Iterator[str]:
    """Yield every string in a row, including nested ones: captions, keywords, labels."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from find_strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from find_strings(inner)
