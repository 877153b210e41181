"""One comparison: two losses of the same float64 tensors, by value and by gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twinlens.training.objective import LossInputs, Objective
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import generator

Rows = Mapping[str, Tensor]
WARM = TrainingProgress(9, 10)  # at the end of a run, where schedules have reached their last value


@dataclass(frozen=True)
class Pair:
    """Our result, theirs, and the tensors that both have a gradient by; none if they have none."""

    ours: Tensor
    theirs: Tensor
    leaves: tuple[Tensor, ...]


@dataclass(frozen=True)
class Comparison:
    """A method in the table: what is compared, with whose code or formula."""

    method: str
    what: str
    whose: str
    compute: Callable[[], Pair]


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return normal float64 draws without gradient."""
    return torch.randn(*shape, generator=generator(seed, 71), dtype=torch.float64)


def leaf(*shape: int, seed: int = 0) -> Tensor:
    """Return normal float64 draws with gradient."""
    return draw(*shape, seed=seed).requires_grad_()


def ask(objective: Objective, student: Rows, **rest: Any) -> Tensor:
    """Return an objective's loss for rows and its other inputs, named as in `LossInputs`."""
    empty: dict[str, Any] = {"teacher": {}, "shared": {}, "state": {}, "extra": {}}
    known = empty | {"progress": WARM, "student": dict(student)} | rest
    loss: Tensor = objective.loss(LossInputs(**known))["loss"]
    return loss


def measure(comparison: Comparison) -> tuple[float, float | None]:
    """Return the relative difference of the value and, if there is one, of the gradient."""
    pair = comparison.compute()
    value = differ(pair.ours.detach(), pair.theirs.detach())
    if not pair.leaves:
        return value, None
    ours, theirs = (
        torch.cat([slope.flatten() for slope in torch.autograd.grad(loss.squeeze(), pair.leaves)])
        for loss in (pair.ours, pair.theirs)
    )
    return value, differ(ours, theirs)


def differ(ours: Tensor, theirs: Tensor) -> float:
    """Return the length of the difference as a share of theirs, which must not be 0."""
    size = float(theirs.norm())
    assert size > 0, "nothing to compare with"
    return float((ours.flatten() - theirs.flatten()).norm()) / size
