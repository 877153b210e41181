"""Common words: true of what is shown, of no more than that, and said in all languages."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import torch

from recipes.builtin.corpus import Corpus, Part
from recipes.builtin.lexicon import EXACT, NAMED, TAGGED, Lexicon
from recipes.builtin.words import read_words


def _lexicon(corpus: Corpus, *concepts: dict[str, Any]) -> Lexicon:
    """Return the lexicon of a corpus whose first emoji concepts are these."""
    named = {row["hexcode"]: None for row in corpus.emoji.rows}
    known = dict(corpus.emoji.concepts)
    for hexcode, concept in zip(named, concepts, strict=False):
        known[hexcode] = {**known[hexcode], **concept}
    emoji = Part(corpus.emoji.pixels, corpus.emoji.rows, known)
    return Lexicon(dataclasses.replace(corpus, emoji=emoji), read_words(), random.Random(0))


def _weights(lexicon: Lexicon, image: int) -> dict[str, float]:
    row = lexicon._truth[image]
    return {lexicon.names[i]: float(row[i]) for i in torch.nonzero(row)[:, 0].tolist()}


DOG = {"label": "dog face", "tags": ["animal", "puppies"]}
POODLE = {"label": "poodle", "tags": ["dog"]}
HOT_DOG = {"label": "hot dog", "tags": ["dog", "sausage"]}


def test_a_word_is_truer_of_what_it_names_than_of_what_it_is_a_keyword_of(corpus: Corpus) -> None:
    lexicon = _lexicon(corpus, DOG, POODLE, {"label": "guide dog", "tags": []})
    assert _weights(lexicon, 0) == {
        "dog": EXACT,
        "face": NAMED,
        "animal": TAGGED,
        "puppy": TAGGED,
    }
    assert _weights(lexicon, 3) == {"dog": TAGGED}
    assert _weights(lexicon, 6) == {"dog": NAMED}


def test_a_hot_dog_is_no_dog(corpus: Corpus) -> None:
    assert _weights(_lexicon(corpus, HOT_DOG), 0) == {"hot dog": EXACT}


def test_other_forms_of_a_word_count(corpus: Corpus) -> None:
    lexicon = _lexicon(corpus, {"label": "automobile", "tags": ["wolves", "eyes"]})
    assert _weights(lexicon, 0) == {"car": EXACT, "wolf": TAGGED, "eye": TAGGED}


def test_icons_and_clothes_get_words_too(corpus: Corpus) -> None:
    rows = [{**row, "caption": "dog house"} for row in corpus.icons.rows]
    lexicon = _lexicon(dataclasses.replace(corpus, icons=Part(corpus.icons.pixels, rows)))
    assert _weights(lexicon, len(corpus.emoji)) == {"dog": NAMED, "house": NAMED}
    dress = [row["cls"] for row in corpus.clothes.rows].index("Dress")
    clothes = len(corpus.emoji) + len(corpus.icons)
    assert _weights(lexicon, clothes + dress) == {"dress": EXACT}


def test_each_drawn_word_comes_in_english_and_in_other_languages(corpus: Corpus) -> None:
    lexicon = _lexicon(corpus, DOG, POODLE)
    texts = set()
    for _ in range(60):
        said = lexicon.say([0, 3, 6])
        assert len(said.texts) == len(said.words) == 4 * said.english
        assert said.truth.shape == (3, len(said.texts))
        assert (said.truth.sum(0) > 0).all()  # each text is true of an image of the batch
        assert (said.truth[2] == 0).all()  # of "thing 3" no common word is true
        assert sorted(set(said.words.tolist())) == sorted(said.words[: said.english].tolist())
        texts |= set(said.texts)
    assert {"dog", "Hund", "chien", "perro", "犬", "कुत्ता"} <= texts


def test_more_words_may_be_drawn_that_no_image_shows(corpus: Corpus) -> None:
    lexicon = _lexicon(corpus, DOG)
    said = lexicon.say([0, 3], more=10)
    assert said.english == len(set(said.words.tolist())) > 10
    pictured = said.truth.any(0)
    assert 0 < int(pictured.sum()) == len(said.texts) - 4 * 10


def test_where_no_word_is_true_none_is_drawn(corpus: Corpus) -> None:
    said = _lexicon(corpus).say([0, 1])
    assert (said.texts, said.english) == ([], 0)
