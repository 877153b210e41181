"""Values that change over a run, as pure functions of the optimizer step.

What must stay true: a schedule depends on the optimizer step only, never on micro-batches or a
counter of its own, so that neither accumulation nor resuming changes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """The position in a run: `step` of `total` optimizer steps done, `per_epoch` in an epoch."""

    step: int
    total: int
    per_epoch: int = 1

    @property
    def share(self) -> float:
        """The part of the run that is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.total))

    @property
    def epoch(self) -> float:
        """The epochs that are done."""
        return self.step / max(1, self.per_epoch)


@dataclass(frozen=True)
class Cosine:
    """From `start` to `end` along half a cosine, over the whole run."""

    start: float
    end: float

    def at(self, progress: TrainingProgress) -> float:
        """Return the value at `progress`."""
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress.share))


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line over the first `share` of the run, then constant."""

    start: float
    end: float
    share: float = 1.0

    def at(self, progress: TrainingProgress) -> float:
        """Return the value at `progress`."""
        done = min(1.0, progress.share / self.share) if self.share > 0 else 1.0
        return self.start + (self.end - self.start) * done


def warmed_cosine(progress: TrainingProgress, warmup: int, floor: float = 0.0) -> float:
    """Return the factor on the learning rate: linear over `warmup` steps, then cosine to `floor`.

    The factor of the first step is above 0, since a rate of exactly 0 would waste it.
    """
    if progress.step < warmup:
        return (progress.step + 1) / warmup
    left = TrainingProgress(progress.step - warmup, max(1, progress.total - warmup))
    return Cosine(1.0, floor).at(left)
