"""Which images a step sees: a fresh permutation each epoch, cut into batches and ranks.

The order is a function of (seed, step): the data cursor of a run is its step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from twinlens.errors import InputError
from twinlens.training.seeds import generator


@dataclass
class SampleOrder:
    """Positions for each optimizer step, over `count` images; incomplete batches are dropped."""

    count: int
    batch: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _permutation: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.count < 2:
            raise InputError(
                f"the data holds {self.count} usable image; training compares images, give more"
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
        if epoch != self._epoch:
            draws = torch.randperm(self.count, generator=generator(self.seed, epoch, 11))
            self._epoch, self._permutation = epoch, draws.tolist()
        local = self.batch // world
        start = within * self.batch + rank * local
        return self._permutation[start : start + local]
