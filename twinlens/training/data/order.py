"""Which images a step sees: a new order each epoch, cut into batches and ranks.

The order is a function of (seed, step), so the data cursor of a run is its step. Images are
shuffled one by one or, for shards that are read in sequence, in blocks of neighbours: each rank
then has its own blocks and shuffles images over as many as `BUFFER` holds.

What must stay true: no image is seen twice in an epoch, for any number of ranks and wherever a run
was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from twinlens.errors import InputError
from twinlens.training.data.mixture import draw_mixture
from twinlens.training.seeds import generator

BUFFER = 8192  # images that a rank shuffles together, where whole blocks are read


@dataclass(frozen=True)
class Blocks:
    """Neighbouring images: at most `size` each, none across the start of a shard."""

    size: int
    starts: Sequence[int]  # positions where shards start

    def cut(self, count: int) -> list[tuple[int, int]]:
        """Return the blocks of `count` images: from, to."""
        ends = [*self.starts[1:], count]
        return [
            (low, min(low + self.size, end))
            for start, end in zip(self.starts, ends, strict=True)
            for low in range(start, end, self.size)
        ]


@dataclass(frozen=True)
class Mixture:
    """The number of images in each part of the data, and its weight."""

    counts: Sequence[int]
    weights: Sequence[float]


@dataclass
class SampleOrder:
    """The positions of each optimizer step, over `count` images; incomplete batches drop out."""

    count: int
    batch: int
    seed: int
    blocks: Blocks | None = None
    mixture: Mixture | None = None
    _known: tuple[int, int, int] = field(default=(-1, 0, 0), init=False)  # epoch, rank, world
    _permutation: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.count < 2:
            raise InputError(
                f"the data holds {self.count} usable image; training compares images; give more"
            )
        if self.batch > self.count:
            raise InputError(
                f"batch is {self.batch} but the data holds {self.count} usable images;"
                f" --set batch={1 << (self.count.bit_length() - 1)}",
                field="batch",
            )

    @property
    def per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.count // self.batch

    def positions(self, step: int, rank: int = 0, world: int = 1) -> list[int]:
        """Return the positions that `rank` sees in `step`."""
        epoch, within = divmod(step, self.per_epoch)
        local = self.batch // world
        own = (epoch, rank, world) if self.blocks is not None else (epoch, 0, 1)
        if own != self._known:
            self._known, self._permutation = own, self._draw(*own)
        start = within * (local if self.blocks is not None else self.batch)
        start += 0 if self.blocks is not None else rank * local
        return self._permutation[start : start + local]

    def coming(self, step: int, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
        """Return the blocks that `rank` starts to read after `step`; empty without blocks."""
        if self.blocks is None:
            return []
        epoch, within = divmod(step, self.per_epoch)
        local = self.batch // world
        buffer = max(1, BUFFER // local)  # steps
        if within % buffer:
            return []
        first = self._spread(epoch, rank, world)[within * local : (within + buffer) * local]
        places = np.sort(first)
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        runs = np.split(places, cuts) if len(places) else []
        return [
            span
            for run in runs
            for span in _cut_at(int(run[0]), int(run[-1]) + 1, self.blocks.starts)
        ]

    def _draw(self, epoch: int, rank: int, world: int) -> list[int]:
        if self.mixture is not None:
            return draw_mixture(self.mixture.counts, self.mixture.weights, self.seed, epoch)
        if self.blocks is None:
            return torch.randperm(self.count, generator=generator(self.seed, epoch, 11)).tolist()
        spread, local = self._spread(epoch, rank, world), self.batch // world
        size = max(1, BUFFER // local) * local
        found: list[int] = []
        for number, start in enumerate(range(0, len(spread), size)):
            some = spread[start : start + size]
            draws = generator(self.seed, epoch, rank, number, 13)
            found += some[torch.randperm(len(some), generator=draws).numpy()].tolist()
        return found

    def _spread(self, epoch: int, rank: int, world: int) -> NDArray[np.int64]:
        """Return the images of a rank in an epoch, one block after another."""
        assert self.blocks is not None, "an order without blocks. This is a bug"
        cut = self.blocks.cut(self.count)
        order = torch.randperm(len(cut), generator=generator(self.seed, epoch, 11)).tolist()
        whole = np.concatenate([np.arange(*cut[number], dtype=np.int64) for number in order])
        size = self.per_epoch * (self.batch // world)
        return whole[rank * size : (rank + 1) * size]


def _cut_at(low: int, high: int, starts: Sequence[int]) -> list[tuple[int, int]]:
    """Return the span, cut where shards start."""
    inner = [start for start in starts if low < start < high]
    ends = [low, *inner, high]
    return list(pairwise(ends))
