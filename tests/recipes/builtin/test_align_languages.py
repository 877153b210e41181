"""The last part: plain words come to lie on their English words, and nothing else moves much."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from recipes.builtin.align_languages import POLISHED, align_languages, list_captions, load_averaged
from recipes.builtin.corpus import Corpus
from recipes.builtin.packaging import PackagedEncoder
from recipes.builtin.recipe import Recipe
from recipes.builtin.sampling import Mix
from recipes.builtin.tokens import TextReader
from recipes.builtin.trainer import TOKENIZER, Trainer
from recipes.builtin.words import Words, read_words
from twinlens.training.progress import Silent

RECIPE = Recipe(held_out=(), polish=25, mix=Mix(2, 2, 2, 2, 1, 1), late=Mix(2, 2, 2, 2, 1, 1))


@pytest.fixture
def words() -> Words:
    """Six of the common words, so that a few steps see each often."""
    words = read_words()
    few = {name: words.keywords[name] for name in ("dog", "cat", "car", "sun", "tree", "book")}
    return dataclasses.replace(words, keywords=few)


def _find_gaps(shipped: PackagedEncoder, words: Words) -> float:
    """Return how far words in other languages lie from the English ones."""
    gaps = []
    for name, said in words.keywords.items():
        rows = shipped.embed_texts([name, *said.values()])
        gaps.append(1 - float((rows[1:] @ rows[0]).mean()))
    return sum(gaps) / len(gaps)


def test_words_move_to_their_english_ones_and_pictures_stay(
    corpus: Corpus, words: Words, tmp_path: Path
) -> None:
    Trainer(corpus, tmp_path, RECIPE, Silent()).save()
    before = PackagedEncoder(tmp_path)
    align_languages(tmp_path, corpus, words, RECIPE, Silent())
    after = PackagedEncoder(tmp_path)
    assert _find_gaps(after, words) < 0.7 * _find_gaps(before, words)
    pixels = corpus.emoji.pixels[:4, ::2, ::2]
    assert (after.encode_pixels(pixels) == before.encode_pixels(pixels)).all()
    captions = list_captions(corpus, set())
    moved = before.embed_texts(captions) * after.embed_texts(captions)
    assert moved.sum(1).mean() > 0.9


def test_aligning_languages_again_ends_the_same(
    corpus: Corpus, words: Words, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, polish=2)
    Trainer(corpus, tmp_path, recipe, Silent()).save()
    ended: list[dict[str, Tensor]] = []
    for _ in range(2):
        align_languages(tmp_path, corpus, words, recipe, Silent())
        ended.append(load_file(tmp_path / POLISHED))
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])
    averaged = load_averaged(tmp_path, TextReader(tmp_path / TOKENIZER)).state_dict()
    assert torch.equal(ended[0]["image.stem.weight"], averaged["image.stem.weight"])


def test_captions_are_listed_once_and_common_words_left_out(corpus: Corpus) -> None:
    captions = list_captions(corpus, {"icon 3", "de 1"})
    assert len(captions) == len(set(captions))
    assert {"thing 4", "ja 4", "icon 4", "tag4"} <= set(captions)
    assert not {"icon 3", "de 1"} & set(captions)
