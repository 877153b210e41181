"""The evaluation: an encoder that knows all scores 100, one that says the same of all scores 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recipes.builtin.corpus import Corpus, Part
from recipes.builtin.evaluation import _unheard, evaluate, rank
from recipes.builtin.words import LANGUAGES, OTHERS, read_words

STYLES = ("noto", "fluent_3d", "fluent_flat", "emojitwo", "blobmoji")
COUNT = 18
DOG = 5  # the concept that a common word names
DIM = 256  # 0..63: what an image shows; from 64 on: its group
Rows = NDArray[np.float32]


def _concept(number: int) -> dict[str, Any]:
    groups = sorted(read_words().groups)
    return {
        "hexcode": str(number),
        "label": f"thing {number}" if number != DOG else f"thing {number} dog",
        "group": groups[number % len(groups)],
        "labels": {language: f"{language} thing {number}" for language in OTHERS},
    }


def _part(rows: list[dict[str, Any]], numbers: Sequence[int], concepts: Any = None) -> Part:
    pixels = np.zeros((len(rows), 64, 64, 3), np.uint8)
    pixels[..., 0] = np.asarray(numbers, np.uint8)[:, None, None]
    return Part(pixels, rows, concepts or {})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    concepts = {str(n): _concept(n) for n in range(COUNT)}
    emoji = [
        {"hexcode": str(n), "style": style, "label": f"thing {n}"}
        for style in STYLES
        for n in range(COUNT)
    ]
    icons = [{"caption": f"icon of thing {n}", "style": f"family {n % 2}"} for n in range(COUNT)]
    classes = sorted(read_words().clothes)
    clothes = [{"cls": name} for name in classes for _ in range(2)]
    return Corpus(
        _part(emoji, [n for _ in STYLES for n in range(COUNT)], concepts),
        _part(icons, range(COUNT)),
        _part(clothes, [40 + classes.index(row["cls"]) for row in clothes]),
    )


class Knowing:
    """Reads the number that an image hides, and the names of groups and clothes."""

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Rows:
        numbers = pixels[:, 0, 0, 0].astype(int)
        rows = np.eye(DIM, dtype=np.float32)[numbers]
        emoji = numbers < 40
        rows[emoji] += 0.5 * np.eye(DIM, dtype=np.float32)[64 + numbers[emoji] % 9]
        return _unit(rows)

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        return np.eye(DIM, dtype=np.float32)[[_find_number(text) for text in texts]]


class Mute:
    """Says the same of everything."""

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Rows:
        return _unit(np.ones((len(pixels), DIM), np.float32))

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        return _unit(np.ones((len(texts), DIM), np.float32))


def _find_number(text: str) -> int:
    words = read_words()
    if "thing " in text:
        return int(text.split("thing ")[1].split()[0])
    if text in {words.say("dog", language) for language in LANGUAGES}:
        return DOG
    named = {names["en"]: 64 + i for i, (_, names) in enumerate(sorted(words.groups.items()))}
    named |= {names["en"]: 40 + i for i, (_, names) in enumerate(sorted(words.clothes.items()))}
    return named[max((name for name in named if name in text), key=len)]


def _unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_an_encoder_that_knows_all_scores_100_everywhere(corpus: Corpus) -> None:
    found = evaluate(Knowing(), corpus, corpus, read_words())
    assert {name: value for name, value in found.items() if value != 100.0} == {}
    assert {"seen_noto_ja_r1", "seen_noto_dim64_r1", "icons_r5", "clothes_probe"} <= set(found)
    assert "unheard_noto_r5" in found
    assert {f"words_noto_{language}" for language in LANGUAGES} <= set(found)


def test_an_encoder_of_constant_rows_scores_nothing(corpus: Corpus) -> None:
    found = evaluate(Mute(), corpus, corpus, read_words())
    retrieved = {name: value for name, value in found.items() if name != "clothes_probe"}
    assert set(retrieved.values()) == {0.0}


def test_rank_counts_those_before_and_those_equal() -> None:
    gallery = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0]], np.float32)
    queries = np.array([[1.0, 0.0]] * 4, np.float32)
    assert rank(queries, gallery, np.arange(4)).tolist() == [0, 2, 2, 3]


def test_concepts_named_like_an_icon_are_not_unseen(corpus: Corpus) -> None:
    icons = [{**row, "caption": f"thing {n}"} for n, row in enumerate(corpus.icons.rows[:-3])]
    named = dataclasses.replace(corpus, icons=Part(corpus.icons.pixels[:-3], icons))
    asked: list[str] = []

    class Listening(Knowing):
        def embed_texts(self, texts: Sequence[str]) -> Rows:
            asked.extend(texts)
            return super().embed_texts(texts)

    assert _unheard(Listening(), named, corpus.emoji, read_words()) == {"unheard_noto_r5": 1.0}
    assert asked == ["thing 15", "thing 16", "thing 17"]
