"""How strings are said in training."""

from __future__ import annotations

import random

import numpy as np
import pytest

from recipes.builtin.photographs.meanings import Saying
from recipes.builtin.photographs.phrasing import Phraser, mistype, pluralise, thin

SAYINGS = [
    Saying("tench", "en", "class", {}, 1.0),
    Saying("otter", "en", "class", {}, 1.0),
    Saying("Otter", "de", "own", {}, 0.8),
    Saying("a man with an otter", "en", "caption", {}, 0.5),
]
WHICH = np.array([0, 1, 1, 2])


@pytest.mark.parametrize(
    ("one", "many"), [("dog", "dogs"), ("fox", "foxes"), ("cherry", "cherries"), ("toy", "toys")]
)
def test_plurals_are_regular(one: str, many: str) -> None:
    assert pluralise(one) == many


def test_a_typo_is_one_slip() -> None:
    slips = {mistype("otter", random.Random(seed)) for seed in range(40)}
    assert "otter" not in slips - {"otter"}
    assert all(abs(len(slip) - 5) <= 1 and slip[0] == "o" for slip in slips)
    assert len(slips) > 5


def test_a_thinned_caption_keeps_its_order_and_some_word() -> None:
    words = ["a", "man", "with", "an", "otter"]
    thinned = [thin(" ".join(words), random.Random(seed)).split() for seed in range(200)]
    assert all(kept and kept == [w for w in words if w in kept] for kept in thinned)
    assert 3.8 < sum(map(len, thinned)) / len(thinned) < 4.7
    assert thin("otter", random.Random(0)) == "otter"


def test_a_batch_holds_every_kind_and_says_what_each_string_means() -> None:
    said = Phraser(SAYINGS, WHICH).draw(300, random.Random(1))
    assert len(said.texts) == 300
    assert "a man with an otter" in said.texts
    assert "a man with otter" in said.texts  # thinned
    assert any("photo" in text for text in said.texts)
    assert {round(float(w), 1) for w in said.weights} == {0.5, 0.8, 1.0}
    assert set(said.first[["man" in t for t in said.texts]]) == {2}
    one = said.share == 1
    assert (said.first[one] == said.second[one]).all()


def test_two_things_in_one_picture_mean_something_of_both() -> None:
    said = Phraser(SAYINGS[:2], WHICH[:2]).draw(400, random.Random(1))
    both = np.array([" and " in text for text in said.texts])
    assert ((said.share[both] >= 0.3) & (said.share[both] <= 0.7)).all()
    assert (said.first[both] != said.second[both]).any()


def test_a_batch_depends_on_its_random_numbers_alone() -> None:
    phraser = Phraser(SAYINGS, WHICH)
    first = phraser.draw(50, random.Random(3))
    phraser.draw(50, random.Random(4))
    assert phraser.draw(50, random.Random(3)).texts == first.texts
