"""The space that photographs and words share: a row for each class of ImageNet.

A class's row is made from the classifier's weights and from its position in WordNet, by a singular
value decomposition with the most informative dimensions first, so that truncated rows work. A
picture is the mixture of rows by the classifier's softmax, a text the mixture of its meaning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recipes.builtin.photographs.wordnet import WordNet, list_classes

DIM = 256
TAXONOMY = 0.4  # share of WordNet in the similarity of two classes

Rows = NDArray[np.float32]


def make_space(classifier: Rows, wordnet: WordNet, share: float = TAXONOMY, dim: int = DIM) -> Rows:
    """Return unit rows (classes, dim); `classifier` (classes, features) are its weights."""
    seen = unit(classifier - classifier.mean(0))
    placed = unit(place_classes(wordnet))
    both = np.concatenate([np.sqrt(1 - share) * seen, np.sqrt(share) * placed], axis=1)
    left, scale, _ = np.linalg.svd(both - both.mean(0), full_matrices=False)
    return unit(left[:, :dim] * scale[:dim])


def place_classes(wordnet: WordNet) -> Rows:
    """Return (classes, synsets): the root of the information content of each synset above."""
    above = [wordnet.ancestors(synset) for synset in list_classes()]
    below = wordnet.classes_below()
    column = {synset: i for i, synset in enumerate(sorted(set().union(*above)))}
    rows: Rows = np.zeros((len(above), len(column)), np.float32)
    for row, synsets in zip(rows, above, strict=True):
        for synset in synsets:
            row[column[synset]] = np.sqrt(-np.log(len(below[synset]) / len(above)) + 1e-9)
    return rows


def unit(rows: Rows) -> Rows:
    """Return rows of length one."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Rows = (rows / (norms + 1e-9)).astype(np.float32)
    return scaled
