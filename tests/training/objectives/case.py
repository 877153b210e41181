"""What a case is: inputs of a loss, how they are drawn, and a method's entry in the proofs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.training.objectives import oracle

N, D, K = 5, 4, 7


@dataclass(frozen=True)
class Case:
    """Inputs of a loss: float64 arrays by name."""

    student: dict[str, Any]
    teacher: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    labels: tuple[int, ...] = (0, 1, 0, 1, 0)
    settings: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    teacher_shared: dict[str, Any] = field(default_factory=dict)


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


@dataclass(frozen=True)
class Entry:
    """A method in the proofs: `ask` takes the objective, the case and the rows."""

    plain: Callable[[], Case]
    extreme: Callable[[], Case]
    ask: Callable[[Any, Case, oracle.Rows], oracle.Number]
    chance: Callable[[int], float]


def scaled(plain: Callable[[], Case], factor: float) -> Callable[[], Case]:
    """Return the case with student rows `factor` times as long."""

    def build() -> Case:
        case = plain()
        rows = {name: factor * values for name, values in case.student.items()}
        return dataclasses.replace(case, student=rows)

    return build
