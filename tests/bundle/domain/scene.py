"""An encoder simple enough to reason about, and pictures of a domain that it tells from others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 16


class StatisticsEncoder:
    """Rows of simple statistics: mean colour, and how much neighbours differ at three distances."""

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = pixels.astype(np.float32) / 255
        parts = [values.mean((1, 2))]
        for step in (1, 2, 5):
            across = np.abs(values[:, :, step:] - values[:, :, :-step])
            down = np.abs(values[:, step:] - values[:, :-step])
            parts += [across.mean((1, 2)), down.mean((1, 2))]
        rows = np.concatenate([*parts, np.ones((len(values), 1), np.float32)], axis=1)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def draw_discs(count: int, seed: int) -> NDArray[np.uint8]:
    """Return one dark disc a picture, on white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    pictures = np.full((count, SIDE, SIDE, 3), 255, np.uint8)
    for picture in pictures:
        middle, radius = rng.uniform(6, 10, 2), rng.uniform(3, 6)
        inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
        picture[inside] = rng.integers(0, 120, 3)
    return pictures


def draw_frames(count: int, seed: int) -> NDArray[np.uint8]:
    """Return one pale rectangle a picture, on black."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    for picture in pictures:
        top, left = rng.integers(1, 5, 2)
        picture[top : top + 9, left : left + 9] = rng.integers(150, 256, 3)
    return pictures


def draw_noise(count: int, seed: int) -> NDArray[np.uint8]:
    """Return pictures of a foreign kind: coloured noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
