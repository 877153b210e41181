"""Groups a collection by spherical k-means, and names the groups by words near their centres.

Words and images lie apart in the space of an encoder, so both are centred before they are compared:
a name tells in what a group differs from the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinlens.errors import InputError
from twinlens.index.ann.words import WORDS
from twinlens.index.storage.captions import CAPTION_FIELDS, LABEL_FIELDS, texts_in
from twinlens.index.storage.catalog import Catalog
from twinlens.index.upkeep.live_rows import mean_row
from twinlens.index.vectors.arrays import Floats, Halves, RowNumbers, as_float32

ROUNDS = 25
SEEDED_ROWS = 20_000  # drawn from, for the first centres
BLOCK = 8192
MOST_WORDS = 3000
LOOKED_AT = 20_000  # items whose captions are read for words
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Clustering:
    """The cluster of each row, the unit centres (k, d), and each row's cosine to its centre."""

    labels: RowNumbers
    centres: Floats
    cosines: Floats

    def members(self, cluster: int) -> RowNumbers:
        """Return the rows of a cluster, most typical first."""
        rows = np.flatnonzero(self.labels == cluster)
        return rows[np.argsort(-self.cosines[rows], kind="stable")]


def cluster_rows(rows: Halves, count: int, seed: int = 0) -> Clustering:
    """Return up to `count` clusters of unit rows (n, d), the largest first."""
    if not 1 <= count <= len(rows):
        raise InputError(
            f"{count} clusters of {len(rows)} items; give between 1 and the number of items",
            field="count",
        )
    rng = np.random.default_rng(seed)
    centres = _first_centres(rows, count, rng)
    labels = np.full(len(rows), -1, np.int64)
    for _ in range(ROUNDS):
        found, cosines = _assign(rows, centres)
        if np.array_equal(found, labels):
            break
        labels = found
        centres = _move(rows, labels, centres)
    labels, cosines = _assign(rows, centres)
    sizes = np.bincount(labels, minlength=len(centres))
    order = np.argsort(-sizes, kind="stable")[: int(np.count_nonzero(sizes))]
    place = np.full(len(centres), -1, np.int64)
    place[order] = np.arange(len(order))
    return Clustering(place[labels], centres[order], cosines)


def read_words(catalog: Catalog) -> list[str]:
    """Return words for names: labels and frequent words of captions, else common words."""
    labels, words = Counter[str](), Counter[str]()
    step = max(1, -(-catalog.count() // LOOKED_AT))
    for item in catalog.items(step=step):
        labels.update(texts_in(item.metadata, LABEL_FIELDS))
        for text in texts_in(item.metadata, CAPTION_FIELDS):
            words.update(set(_WORD.findall(text.lower())))
    frequent = [word for word, number in words.most_common(MOST_WORDS) if number > 1]
    short = [label for label, _ in labels.most_common(MOST_WORDS) if len(label.split()) <= 3]
    found = list(dict.fromkeys([*short, *frequent]))[:MOST_WORDS]
    return found or list(WORDS)


def name_clusters(
    clustering: Clustering, rows: Halves, words: Sequence[str], embeddings: Floats, names: int = 3
) -> list[list[str]]:
    """Return the `names` nearest of the words for each cluster; `embeddings` are theirs (m, d)."""
    centres = clustering.centres - mean_row(rows)
    beside = embeddings - embeddings.mean(axis=0)
    near = _unit(centres) @ _unit(beside).T
    order = np.argsort(-near, axis=1, kind="stable")[:, :names]
    return [[words[place] for place in places] for places in order.tolist()]


def _first_centres(rows: Halves, count: int, rng: np.random.Generator) -> Floats:
    """Return rows that lie apart (k-means++), drawn from a sample."""
    size = min(len(rows), max(SEEDED_ROWS, 2 * count))
    sample = as_float32(rows[np.sort(rng.choice(len(rows), size, replace=False))])
    centres = [sample[int(rng.integers(len(sample)))]]
    apart = 1 - sample @ centres[0]
    while len(centres) < count:
        chance = np.maximum(apart.astype(np.float64), 0)
        total = chance.sum()
        place = int(rng.choice(size, p=chance / total)) if total > 0 else int(rng.integers(size))
        centres.append(sample[place])
        apart = np.minimum(apart, 1 - sample @ sample[place])
    return np.stack(centres)


def _assign(rows: Halves, centres: Floats) -> tuple[RowNumbers, Floats]:
    labels = np.empty(len(rows), np.int64)
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        near = as_float32(rows[start : start + BLOCK]) @ centres.T
        labels[start : start + BLOCK] = near.argmax(axis=1)
        cosines[start : start + BLOCK] = near.max(axis=1)
    return labels, cosines


def _move(rows: Halves, labels: RowNumbers, centres: Floats) -> Floats:
    """Return the unit means of the clusters; an empty one stays where it is."""
    sums = np.zeros(centres.shape, np.float64)
    for start in range(0, len(rows), BLOCK):
        np.add.at(sums, labels[start : start + BLOCK], as_float32(rows[start : start + BLOCK]))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    moved = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
    return as_float32(moved)


def _unit(rows: npt.NDArray[np.floating]) -> Floats:
    return as_float32(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
