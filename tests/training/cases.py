"""Inputs on which a loss is compared with its oracle, and the table of the younger methods.

`FAMILY` maps a method to its plain and its extreme inputs and its oracle, so that a new method is
one entry; the parametrised proofs do the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.training import oracle, oracle_family

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
        return Case(rows, case.teacher, case.shared, case.state, settings=case.settings)

    return build


def simsiam() -> Case:
    return Case({"p": draw(N, 2, D), "z": draw(N, 2, D, seed=1)})


def two_views() -> Case:
    return Case({"z": draw(N, 2, D)})


def swav() -> Case:
    prototypes = oracle.unit(draw(K, D, seed=1))
    return Case(
        {"z": draw(N, 2, D), "small": draw(N, 3, D, seed=2)},
        shared={"prototypes": prototypes},
        state={"queue": draw(8, D, seed=3)},
        settings={"queue": 8, "dim": D, "prototypes": K},
    )


def swav_sharp() -> Case:
    case = swav()
    sharp = {"temperature": 0.015, "sharpness": 0.02}
    return Case(case.student, {}, case.shared, case.state, settings={**case.settings, **sharp})


FAMILY = {
    "simsiam": Entry(
        simsiam,
        scaled(simsiam, 1e3),
        lambda objective, case, rows: oracle_family.simsiam(rows["p"], rows["z"]),
        lambda n: 0.0,
    ),
    "barlow": Entry(
        two_views,
        scaled(two_views, 60),
        lambda objective, case, rows: oracle_family.barlow(rows["z"], objective.off_diagonal),
        lambda n: 512.0,
    ),
    "vicreg": Entry(
        two_views,
        scaled(two_views, 60),
        lambda objective, case, rows: oracle_family.vicreg(rows["z"]),
        lambda n: 24.75,
    ),
    "swav": Entry(
        swav,
        swav_sharp,
        lambda objective, case, rows: oracle_family.swav(
            rows["z"],
            rows["small"],
            rows["prototypes"],
            case.state["queue"],
            objective.temperature,
            objective.sharpness,
        ),
        lambda n: float(np.log(512)),
    ),
}
