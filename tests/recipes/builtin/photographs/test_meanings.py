"""What strings mean."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from recipes.builtin.photographs.meanings import CaptionReader, Held, read_sayings, to_row

ENGLISH = {
    "cat": {"q": {281: 1.0}, "w": 1.0},
    "sofa": {"q": {831: 1.0}, "w": 0.9},
    "ball": {"q": {805: 0.5, 852: 0.5}, "w": 1.0},
    "sky": {"q": {1: 1.0}, "w": 0.4},
}


def test_a_caption_is_the_mixture_of_its_nouns_in_any_form() -> None:
    reader = CaptionReader(ENGLISH, ["Two cats on a sofa", "a ball", "a ball", "a ball"])
    (caption, *_) = reader.sayings()
    assert caption.text == "Two cats on a sofa"
    assert set(caption.meaning) == {281, 831}
    assert sum(caption.meaning.values()) == pytest.approx(1.0, abs=1e-3)


def test_a_noun_that_imagenet_does_not_name_is_known_by_its_company() -> None:
    captions = ["a ball in the sky"] * 9 + ["a cat on a sofa"] * 30
    row, trust = CaptionReader(ENGLISH, captions).meanings["sky"]
    assert row[[805, 852]].sum() > 0.8 > row[1]
    assert trust == 0.5


def test_a_noun_that_is_rarely_said_keeps_what_wordnet_says() -> None:
    row, _ = CaptionReader(ENGLISH, ["a ball in the sky", "a cat"]).meanings["sky"]
    assert row[1] == 1.0


def test_a_row_sums_to_one() -> None:
    assert to_row({3: 2.0, 5: 6.0})[[3, 5]] == pytest.approx([0.25, 0.75])


def write_words(folder: Path) -> Path:
    rows = [
        {"t": "tabby", "l": "en", "src": "class", "q": {"281": 1.0}, "w": 1.0},
        {"t": "Katze", "l": "de", "src": "wikt-deu", "q": {"281": 1.0}, "w": 0.8},
        {"t": "big cat", "l": "en", "src": "wordnet", "q": {"286": 0.5, "287": 0.5}, "w": 1.0},
        {"t": "a small beast", "l": "en", "src": "gloss", "q": {"281": 1.0}, "w": 0.6},
    ]
    with lzma.open(folder / "lexicon.jsonl.xz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    (folder / "captions.json").write_text(json.dumps({"coco": ["a tabby sleeps", "a big cat"]}))
    names = folder / "imagenet_names"
    names.mkdir()
    for name in ("jp", "cn", "it", "en"):
        (names / f"{name}.json").write_text(json.dumps({"imagenet1k": ["one", "two"]}))
    return folder


def test_every_list_is_read_with_its_kind(tmp_path: Path) -> None:
    said = {s.text: (s.kind, s.language) for s in read_sayings(write_words(tmp_path))}
    assert said["tabby"] == ("class", "en")
    assert said["Katze"] == ("own", "de")
    assert said["a small beast"] == ("gloss", "en")
    assert said["a tabby sleeps"] == ("caption", "en")


def test_a_class_without_a_sure_name_is_taught_its_likeliest(tmp_path: Path) -> None:
    words = write_words(tmp_path)
    unsure = [
        {"t": "Schleie", "l": "de", "src": "wikt-deu", "q": {"0": 1.0}, "w": 0.6},
        {"t": "Fisch", "l": "de", "src": "wikt-deu", "q": {"0": 1.0}, "w": 0.4},
        {"t": "Kater", "l": "de", "src": "wikt-deu", "q": {"281": 1.0}, "w": 0.6},
    ]
    with lzma.open(words / "lexicon.jsonl.xz", "at", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in unsure)
    own = {s.text: s.trust for s in read_sayings(words) if s.kind == "own"}
    assert own["Schleie"] == 0.6
    assert "Fisch" not in own  # a likelier name is taught
    assert "Kater" not in own  # the class has the sure name Katze


def test_what_is_held_out_is_named_by_no_string(tmp_path: Path) -> None:
    held = Held(words=frozenset({"big cat", "tabby"}))
    texts = [s.text for s in read_sayings(write_words(tmp_path), held)]
    assert "big cat" not in texts
    assert "tabby" not in texts
    assert "Katze" in texts


def test_a_mixture_of_the_same_classes_is_held_out_in_every_language() -> None:
    held = Held(sets=frozenset({frozenset({1, 2, 3, 4})}))
    assert held.covers("Tier", {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25})
    assert not held.covers("Tier", {1: 0.5, 2: 0.5})


def test_rows_are_of_one_kind() -> None:
    assert to_row({0: 1.0}).dtype == np.float32
