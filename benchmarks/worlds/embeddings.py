"""Synthetic embeddings for `search.py`: images in long-tailed topics, texts away from them.

Modelled on CLIP's: images have a cosine of about 0.5 to each other, texts 0.66, an image and a text
0.09, and a text's ten best images 0.32. Results measure the index, not a model.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
TOPICS, CONCEPTS = 400, 20_000
PIECE = 20_000  # rows drawn at once, so that any part of the world equals that part of the whole


@dataclass(frozen=True)
class World:
    """`images` to index, and queries of both modalities that are not among them."""

    images: Rows
    image_queries: Rows
    text_queries: Rows


def make_world(count: int, queries: int, dim: int = 512) -> World:
    """Return the same world each time."""
    return World(draw_images(count, 0, dim), *make_queries(queries, dim))


def draw_images(count: int, start: int, dim: int = 512) -> Rows:
    """Return `count` rows of the world from row `start` on, a multiple of `PIECE`."""
    frame = _frame(dim)
    ends = range(start, start + count, PIECE)
    return np.concatenate([frame.images(min(PIECE, start + count - at), 100 + at) for at in ends])


def make_queries(count: int, dim: int = 512) -> tuple[Rows, Rows]:
    """Return image queries and text queries of the world."""
    frame = _frame(dim)
    return frame.images(count, 9), frame.texts(count, 10)


class _Frame:
    def __init__(self, dim: int) -> None:
        rng = np.random.default_rng(0)
        self._turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
        spectrum = np.arange(1, dim + 1) ** -0.5
        self._spectrum = (spectrum / np.sqrt((spectrum**2).sum())).astype(np.float32)
        topics = self._draw(TOPICS, 1)
        topic = np.random.default_rng(3).integers(0, TOPICS, CONCEPTS)
        self._centres = 0.65 * topics[topic] + 0.55 * self._draw(CONCEPTS, 2)
        popularity = 1 / np.arange(1, CONCEPTS + 1) ** 0.6
        self._popularity = popularity / popularity.sum()
        self._order = np.random.default_rng(4).permutation(CONCEPTS)
        self._image_mean = _unit(rng.standard_normal(dim))
        text_mean = rng.standard_normal(dim)
        text_mean -= text_mean @ self._image_mean * self._image_mean
        self._text_mean = _unit(text_mean)

    def images(self, count: int, seed: int) -> Rows:
        meaning = self._centres[self._concepts(count, seed)] + 0.55 * self._draw(count, seed + 1)
        return _unit(0.95 * self._image_mean + 0.95 * (meaning @ self._turn.T))

    def texts(self, count: int, seed: int) -> Rows:
        coarse = 0.7 * self._centres[self._concepts(count, seed)]
        meaning = (coarse + 0.25 * self._draw(count, seed + 1)) @ self._turn.T
        rng = np.random.default_rng(seed + 2)
        only = rng.standard_normal(meaning.shape, dtype=np.float32)
        only *= 0.5 / np.sqrt(meaning.shape[1])
        means = 0.95 * self._text_mean + 0.15 * self._image_mean
        return _unit(means + 0.75 * meaning + only)

    def _concepts(self, count: int, seed: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng(seed)
        chosen: npt.NDArray[np.int64] = self._order[rng.choice(CONCEPTS, count, p=self._popularity)]
        return chosen

    def _draw(self, count: int, seed: int) -> Rows:
        rng = np.random.default_rng([seed, 7])
        dim = len(self._spectrum)
        drawn: Rows = rng.standard_normal((count, dim), dtype=np.float32) * self._spectrum
        return drawn


@functools.cache
def _frame(dim: int) -> _Frame:
    return _Frame(dim)


def _unit(rows: npt.NDArray[np.floating]) -> Rows:
    unit: Rows = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit
