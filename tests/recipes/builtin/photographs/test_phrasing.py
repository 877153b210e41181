"""How strings are said in training."""

from __future__ import annotations

import random

import numpy as np
import pytest

from recipes.builtin.photographs.meanings import Saying
from recipes.builtin.photographs.phrasing import Phraser, mistype, pluralise

SAYINGS = [
    Saying("tench", "en", "class", {}, 1.0),
    Saying("otter", "en", "class", {}, 1.0),
    Saying("Otter", "de", "own", {}, 0.8),
    Saying("a man with an otter", "en", "caption", {}, 0.5),
]
ROWS = np.eye(4, dtype=np.float32)


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


def test_a_batch_holds_every_kind_and_unit_rows() -> None:
    said = Phraser(SAYINGS, ROWS, random.Random(1)).draw(300)
    assert len(said.texts) == 300
    assert np.allclose(np.linalg.norm(said.targets, axis=1), 1, atol=1e-5)
    assert "a man with an otter" in said.texts
    assert any("photo" in text for text in said.texts)
    assert {round(float(w), 1) for w in said.weights} == {0.5, 0.8, 1.0}


def test_two_things_in_one_picture_mean_something_of_both() -> None:
    said = Phraser(SAYINGS[:2], ROWS, random.Random(1)).draw(400)
    both = [row for text, row in zip(said.texts, said.targets, strict=True) if " and " in text]
    assert any((row[:2] > 0.3).all() for row in both)
