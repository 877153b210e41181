"""The settings of a run of the builtin encoder, and its learning rate step by step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from recipes.builtin.sampling import Mix
from recipes.builtin.towers import IMAGE_SIZE
from twinlens.errors import InputError
from twinlens.training.config import build, differences

_REKINDLE_STEPS = 30  # steps of the second part's warmup


@dataclass(frozen=True)
class Recipe:
    """The settings of a run: `steps` without the held-out styles, `finish` with all, then `polish`.

    The second part has its own mix, `late`: more photographs, and words without pictures.
    """

    steps: int = 6000
    finish: int = 400
    polish: int = 150  # last steps, only of the text tower: languages are aligned
    held_out: tuple[str, ...] = ("blobmoji",)
    cooldown: float = 0.3  # share of the first part in which the learning rate falls
    rekindled: float = 0.4  # share of the learning rate at which the second part starts
    lr: float = 2e-3
    warmup: int = 150  # steps
    size: int = IMAGE_SIZE
    seed: int = 7
    save_every: float = 90.0  # seconds
    mix: Mix = dataclasses.field(default_factory=Mix)
    late: Mix = dataclasses.field(default_factory=lambda: Mix(clothes=128, blends=0, words=150))

    @property
    def total(self) -> int:
        """The steps of both parts."""
        return self.steps + self.finish

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: up, level, down; with all styles down once more."""
        if step >= self.steps:
            done = step - self.steps
            warm = min(1.0, (done + 1) / _REKINDLE_STEPS)
            return self.lr * self.rekindled * warm * (1 - done / self.finish)
        warm = min(1.0, (step + 1) / self.warmup)
        return self.lr * warm * min(1.0, (1 - step / self.steps) / self.cooldown)

    def check_resumable(self, before: dict[str, Any], step: int) -> None:
        """Raise if a run with other settings so far cannot continue with these.

        Lengths may change as long as no finished step's learning rate depended on them.
        """
        free = {"save_every", "polish"} | ({"finish"} if step <= self.steps else set())
        known = build(Recipe, before)
        if step <= min(r.steps * (1 - r.cooldown) for r in (self, known)):
            free.add("steps")
        kept = dataclasses.replace(self, **{name: getattr(known, name) for name in free})
        changed = differences(known, kept)
        if changed:
            raise InputError(
                f"the run was made with other settings: {', '.join(changed)}; "
                "use the same ones, or another folder",
                field="--set",
            )
