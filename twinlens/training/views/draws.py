"""Uniform draws for single images, each from its own seed.

A batch draws from one generator, so an image's draws depend on its batch. `RowDraws` depends only
on the seed of each image: its view can be made again in any batch, at any size. What must stay
true: row i is a function of seed i and of the order of calls.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# SplitMix64 (Steele, Lea and Flood 2014): a counter in steps of the golden ratio, then mixed.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class RowDraws:
    """Draws for n images; each call continues where the last one ended."""

    def __init__(self, seeds: list[int]) -> None:
        self._seeds = np.array(seeds, np.uint64)[:, None]
        self._drawn = 0

    def rand(self, *shape: int) -> Tensor:
        """Return uniform draws in [0, 1), float32; the first dimension is the image."""
        assert shape[0] == len(self._seeds), "draws for another batch. This is a bug"
        count = math.prod(shape[1:])
        places = np.arange(self._drawn + 1, self._drawn + count + 1, dtype=np.uint64)
        self._drawn += count
        bits = _mix(self._seeds + places * _STEP) >> np.uint64(40)
        return torch.from_numpy((bits * 2.0**-24).astype(np.float32)).view(shape)


Draws = torch.Generator | RowDraws


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for shift, factor in zip((30, 27), _MIXERS, strict=True):
        bits = (bits ^ (bits >> np.uint64(shift))) * factor
    return bits ^ (bits >> np.uint64(31))
