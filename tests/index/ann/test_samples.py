"""Text queries for tuning: the user's own first, then captions, then words in templates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from twinlens.index.ann import samples
from twinlens.index.ann.samples import choose_texts
from twinlens.index.ann.words import WORDS
from twinlens.index.writer import Writer


def fill(writer: Writer, metadata: list[dict[str, Any]]) -> None:
    rows = np.random.default_rng(0).standard_normal((len(metadata), 16))
    writer.upsert([f"i{n}" for n in range(len(metadata))], rows, metadata)


def test_queries_of_the_user_take_precedence(writer: Writer) -> None:
    fill(writer, [{"caption": f"caption {n}"} for n in range(300)])
    sample = choose_texts(writer.catalog, ["{}"], given=["a", "b", "a"])
    assert (sample.texts, sample.source) == (("a", "b"), "given")


def test_captions_are_used_where_there_are_enough(writer: Writer) -> None:
    fill(writer, [{"captions": [f"one {n}", f"two {n}"], "label": "x"} for n in range(150)])
    sample = choose_texts(writer.catalog, ["{}"], count=50)
    assert sample.source == "captions"
    assert len(set(sample.texts)) == 50
    assert all(text.startswith(("one ", "two ")) for text in sample.texts)
    assert choose_texts(writer.catalog, ["{}"], count=50) == sample  # deterministic


def test_items_without_captions_are_represented_by_their_labels(writer: Writer) -> None:
    metadata = [{"caption": f"caption {n}", "label": "thing"} for n in range(250)]
    fill(writer, metadata + [{"label": f"label {n}"} for n in range(250)])
    sample = choose_texts(writer.catalog, ["{}"], count=400)
    assert sample.source == "captions"
    assert sum(text.startswith("label ") for text in sample.texts) > 150
    assert "thing" not in sample.texts


def test_the_sample_is_drawn_from_the_whole_collection(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "LOOKED_AT", 300)
    # Captions repeat with period three: the sample must not contain one kind only.
    fill(writer, [{"caption": f"kind {n % 3}: {n}"} for n in range(800)])
    numbers = [int(text.split()[-1]) for text in choose_texts(writer.catalog, ["{}"]).texts]
    assert 200 < len(numbers) < 350
    assert min(numbers) < 80
    assert max(numbers) > 720
    assert all(sum(n % 3 == kind for n in numbers) > 50 for kind in range(3))


def test_without_captions_words_and_labels_fill_the_templates(writer: Writer) -> None:
    fill(writer, [{"label": "axolotl"}])
    sample = choose_texts(writer.catalog, ["a photo of a {}", "{}"], count=10_000)
    assert "a photo of a axolotl" in sample.texts
    assert f"a photo of a {WORDS[0]}" in sample.texts
    assert len(sample.texts) == 2 * (len(WORDS) + 1)


def test_the_words_are_numerous_and_distinct() -> None:
    assert len(WORDS) == len(set(WORDS)) > 400
