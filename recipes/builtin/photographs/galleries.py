"""Whether drawings keep their quality beside photographs: alone, and in one gallery with them.

The mixed gallery holds emoji of one style and the photographs of `coco_mini`; each text ranks all
of them. What must stay true: ties count against the encoder.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.builtin.photographs.evaluation import (
    TEMPLATES,
    Encoder,
    Measures,
    average,
    embed,
    read_rows,
    share,
)
from recipes.builtin.photographs.space import Rows
from recipes.builtin.words import read_words

_STYLE = "noto"


def evaluate_galleries(encoder: Encoder, data: Path) -> Measures:
    """Return the measures of drawings, clothes and the mixed gallery."""
    emoji = read_emoji(data / "emoji64" / "train.zip")
    images = embed(encoder, (content for content, _ in emoji))
    labels = encoder.embed_texts([row["label"] for _, row in emoji])
    found = {"noto_r1": share(rank(labels, images, np.arange(len(emoji))) < 1)}
    found |= _measure_icons(encoder, data) | _measure_clothes(encoder, data)
    return found | _measure_mixed(encoder, data, images, labels)


def read_emoji(archive: Path, style: str = _STYLE) -> list[tuple[bytes, Mapping[str, Any]]]:
    """Return the emoji of one style, on white."""
    with zipfile.ZipFile(archive) as stored:
        rows = [json.loads(line) for line in stored.read("index.jsonl").decode().splitlines()]
        return [(stored.read(r["file"]), r) for r in rows if r["style"] == style]


def rank(texts: Rows, images: Rows, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pictures come before the right one of each text."""
    scores = texts @ images.T
    before: NDArray[np.int64] = (scores >= scores[np.arange(len(right)), right][:, None]).sum(1)
    return before - 1


def _measure_icons(encoder: Encoder, data: Path) -> Measures:
    rows = read_rows(data / "icons64" / "test.zip")
    images = embed(encoder, (content for content, _ in rows))
    texts = encoder.embed_texts([row["caption"] for _, row in rows])
    families = np.array([row["style"] for _, row in rows])
    ranks = np.empty(len(rows), np.int64)
    for family in set(families.tolist()):
        (own,) = np.nonzero(families == family)
        ranks[own] = rank(texts[own], images[own], np.arange(len(own)))
    return {"icons_r5": share(ranks < 5)}


def _measure_clothes(encoder: Encoder, data: Path) -> Measures:
    names = read_words().clothes
    rows = [(c, row) for c, row in read_rows(data / "clothing96" / "test.zip") if row["cls"]]
    images = embed(encoder, (content for content, _ in rows))
    classes = sorted(names)
    bank = average(encoder, [names[name]["en"] for name in classes], TEMPLATES)
    right = np.array([classes.index(row["cls"]) for _, row in rows])
    return {"clothes_zero_shot": share((images @ bank.T).argmax(1) == right)}


def _measure_mixed(encoder: Encoder, data: Path, emoji: Rows, labels: Rows) -> Measures:
    photos = read_rows(data / "coco_mini" / "test.zip")
    gallery = np.concatenate([emoji, embed(encoder, (content for content, _ in photos))])
    captions = [(i, text) for i, (_, row) in enumerate(photos) for text in row["captions"]]
    texts = encoder.embed_texts([text for _, text in captions])
    right = np.array([len(emoji) + i for i, _ in captions])
    return {
        "mixed_emoji_r1": share(rank(labels, gallery, np.arange(len(emoji))) < 1),
        "mixed_captions_r1": share(rank(texts, gallery, right) < 1),
    }
