"""The space of photographs and words."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.builtin.photographs.space import make_space
from recipes.builtin.photographs.wordnet import WordNet, list_classes

CLASSES = list_classes()


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    """Two kinds: the first hundred classes, and all others."""
    above = {c: ["few" if i < 100 else "many"] for i, c in enumerate(CLASSES)}
    return WordNet({}, {**above, "few": ["thing"], "many": ["thing"], "thing": []})


def test_classes_lie_below_every_synset_above_them(wordnet: WordNet) -> None:
    below = wordnet.classes_below()
    assert below["few"] == list(range(100))
    assert len(below["thing"]) == 1000
    assert wordnet.ancestors(CLASSES[0]) == {CLASSES[0]: 0, "few": 1, "thing": 2}


def test_classes_of_one_kind_lie_nearer(wordnet: WordNet) -> None:
    classifier = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    rows = make_space(classifier, wordnet, dim=32)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    near = rows[:100] @ rows[:100].mean(0)
    assert near.mean() > (rows[100:] @ rows[:100].mean(0)).mean() + 0.1


def test_the_first_dimensions_say_the_most(wordnet: WordNet) -> None:
    classifier = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    spread = make_space(classifier, wordnet, dim=32).std(0)
    assert spread[:8].mean() > spread[-8:].mean()
