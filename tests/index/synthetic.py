"""Synthetic image and text embeddings with a modality gap, as in CLIP models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinlens.bundle.arrays import Rows


@dataclass(frozen=True)
class World:
    """Concepts in topics; `gap` is the offset of texts from images, `noise` that of texts alone."""

    dim: int = 48
    topics: int = 20
    concepts: int = 400
    gap: float = 0.9
    noise: float = 0.5
    detail: float = 0.6
    decay: float = 0.5
    skew: float = 0.6  # how much more often the first concepts come than the others
    seed: int = 0

    def images(self, count: int, seed: int) -> Rows:
        """Return image rows (count, dim)."""
        rng = np.random.default_rng([self.seed, seed, 1])
        means, centres, popularity = self._frame()
        chosen = rng.choice(self.concepts, count, p=popularity)
        return _unit(self.gap * means[0] + centres[chosen] + self.detail * self._draw(rng, count))

    def texts(self, count: int, seed: int) -> Rows:
        """Return text rows (count, dim)."""
        rng = np.random.default_rng([self.seed, seed, 2])
        means, centres, popularity = self._frame()
        chosen = rng.choice(self.concepts, count, p=popularity)
        only = rng.standard_normal((count, self.dim)) * self.noise / np.sqrt(self.dim)
        meaning = 0.7 * centres[chosen] + 0.25 * self._draw(rng, count)
        return _unit(self.gap * means[1] + 0.75 * meaning + only)

    def _frame(self) -> tuple[Rows, Rows, npt.NDArray[np.float64]]:
        rng = np.random.default_rng([self.seed, 0])
        means = _unit(rng.standard_normal((2, self.dim)))
        means[1] = _unit((means[1] - means[1] @ means[0] * means[0])[None])[0]
        topics = self._draw(rng, self.topics)
        centres = 0.65 * topics[rng.integers(0, self.topics, self.concepts)]
        centres = centres + 0.55 * self._draw(rng, self.concepts)
        popularity = 1 / np.arange(1, self.concepts + 1) ** self.skew
        return means, centres.astype(np.float32), popularity / popularity.sum()

    def _draw(self, rng: np.random.Generator, count: int) -> Rows:
        spectrum = np.arange(1, self.dim + 1) ** -self.decay
        spectrum /= np.sqrt((spectrum**2).sum())
        return (rng.standard_normal((count, self.dim)) * spectrum).astype(np.float32)


@dataclass(frozen=True)
class Manifold:
    """Images of few degrees of freedom in many dimensions; texts beside them."""

    dim: int = 512
    freedom: int = 16
    gap: float = 0.5
    seed: int = 0

    def images(self, count: int, seed: int) -> Rows:
        """Return image rows (count, dim)."""
        rng = np.random.default_rng([self.seed, seed, 1])
        return _unit(np.tanh(rng.standard_normal((count, self.freedom))) @ self._frame())

    def texts(self, count: int, seed: int) -> Rows:
        """Return text rows (count, dim)."""
        rng = np.random.default_rng([self.seed, seed, 2])
        near = _unit(np.tanh(rng.standard_normal((count, self.freedom))) @ self._frame())
        aside = np.random.default_rng([self.seed, 7]).standard_normal(self.dim)
        noise = 0.3 * rng.standard_normal((count, self.dim)) / np.sqrt(self.dim)
        return _unit(near + self.gap * aside / np.linalg.norm(aside) + noise)

    def _frame(self) -> npt.NDArray[np.float64]:
        return np.random.default_rng([self.seed, 0]).standard_normal((self.freedom, self.dim))


@dataclass(frozen=True)
class Copies:
    """A world in which a share of all images, asked ones too, are exact copies of a first few."""

    world: World = World()
    share: float = 0.3
    originals: int = 2000

    def images(self, count: int, seed: int) -> Rows:
        """Return image rows (count, dim)."""
        rng = np.random.default_rng([self.world.seed, seed, 5])
        rows = self.world.images(count, seed)
        copied = rng.random(count) < self.share
        shown = self.world.images(self.originals, 99)
        rows[copied] = shown[rng.integers(0, self.originals, int(copied.sum()))]
        return rows

    def texts(self, count: int, seed: int) -> Rows:
        """Return text rows (count, dim)."""
        return self.world.texts(count, seed)


@dataclass(frozen=True)
class OneImage:
    """A world in which every image is the same."""

    world: World = World()

    def images(self, count: int, seed: int) -> Rows:
        """Return image rows (count, dim)."""
        return np.repeat(self.world.images(1, 1), count, axis=0)

    def texts(self, count: int, seed: int) -> Rows:
        """Return text rows (count, dim)."""
        return self.world.texts(count, seed)


def _unit(rows: npt.NDArray[np.floating]) -> Rows:
    unit: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
