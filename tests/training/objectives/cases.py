"""Inputs on which a loss is compared with its oracle, and the table of the younger methods.

`FAMILY` maps a method to its plain and its extreme inputs and its oracle, so that a new method is
one entry; the parametrised proofs do the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.training.objectives import oracle, oracle_family
from tests.training.objectives.case import Case, D, Entry, K, N, draw, scaled
from tests.training.objectives.pretext_cases import PRETEXT
from tests.training.objectives.taught_cases import TAUGHT


def simsiam() -> Case:
    return Case({"p": draw(N, 2, D), "z": draw(N, 2, D, seed=1)})


def two_views() -> Case:
    return Case({"z": draw(N, 2, D)})


def swav() -> Case:
    prototypes = oracle.unit(draw(K, D, seed=1))
    return Case(
        {"z": draw(N, 2, D), "small": draw(N, 3, D, seed=2)},
        shared={"prototypes": prototypes},
        state={"queue_0": draw(8, D, seed=3), "queue_1": draw(8, D, seed=4)},
        settings={"queue": 8, "dim": D, "prototypes": K},
    )


def swav_sharp() -> Case:
    case = swav()
    sharp = {"temperature": 0.015, "sharpness": 0.02}
    return Case(case.student, {}, case.shared, case.state, settings={**case.settings, **sharp})


def hidden(views: int = 1, patches: int = 6) -> Any:
    """Return a mask of half of the patches, in another place for each image and view."""
    order = np.random.default_rng(5).permuted(np.tile(np.arange(patches), (N, views, 1)), axis=-1)
    return order < patches // 2


def two_towers() -> Case:
    return Case({"x": draw(N, D), "y": draw(N, D, seed=1)})


def cpc() -> Case:
    return Case({"p": draw(N, 9, D), "z": draw(N, 9, D, seed=1)})


def cpc_sharp() -> Case:
    return dataclasses.replace(cpc(), settings={"temperature": 0.015})


def painting() -> Case:
    rows = {"pixels": draw(N, 6, 12), "target": draw(N, 6, 12, seed=1)}
    return Case(rows, extra={"mask": hidden()})


def beit() -> Case:
    codes = np.random.default_rng(7).integers(0, K, (N, 6))
    return Case({"logits": draw(N, 6, K)}, extra={"mask": hidden(), "codes": codes})


def ibot() -> Case:
    mask = hidden(2)
    mask[1, 0] = False  # a crop that is not masked at all
    return Case(
        {"logits": draw(N, 4, K), "patches": draw(N, 2, 6, D, seed=6), "x": draw(N, 2, D)},
        {"logits": draw(N, 2, K, seed=1), "patches": draw(N, 2, 6, D, seed=2)},
        shared={"patch_prototypes": oracle.unit(draw(K, D, seed=8))},
        state={"centre": draw(K, seed=3) * 0.1, "patch_centre": draw(K, seed=4) * 0.1},
        extra={"mask": mask},
        teacher_shared={"patch_prototypes": oracle.unit(draw(K, D, seed=9))},
    )


def scored(**numbers: float) -> Callable[[], Case]:
    """Return two towers' rows with numbers that their loss learns."""
    shared = {name: np.array(value) for name, value in numbers.items()}
    return lambda: dataclasses.replace(two_towers(), shared=shared)


def with_negatives() -> Case:
    rows = {"x": draw(N, D), "y": draw(N, D, seed=1), "wrong": draw(N, 2, D, seed=2)}
    return Case(rows, shared={"scale": np.array(14.0)})


def with_negatives_sharp() -> Case:
    return dataclasses.replace(with_negatives(), shared={"scale": np.array(100.0)})


def ask_sinkhorn(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    mask, warm = case.extra["mask"], objective.student_temperature
    loss = oracle_family.ibot_balanced(
        rows["logits"], patch_logits(rows), teacher_logits(case), mask, 0.07, warm
    )
    return loss + objective.koleo * oracle_family.koleo(rows["x"])


def ibot_sharp() -> Case:
    case = ibot()
    teacher = {name: rows * 2 for name, rows in case.teacher.items()}
    return dataclasses.replace(case, teacher=teacher)


def patch_logits(rows: oracle.Rows) -> Any:
    return rows["patches"] @ rows["patch_prototypes"].T


def teacher_logits(case: Case) -> dict[str, Any]:
    cells = case.teacher["patches"] @ case.teacher_shared["patch_prototypes"].T
    return {"logits": case.teacher["logits"], "patches": cells}


def ask_ibot(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    teacher_rows = {name: values.astype(complex) for name, values in teacher_logits(case).items()}
    mask, warm = case.extra["mask"], objective.student_temperature
    return oracle_family.ibot(
        rows["logits"], patch_logits(rows), teacher_rows, case.state, mask, 0.07, warm
    )


FAMILY = {
    **TAUGHT,
    **PRETEXT,
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
    "devise": Entry(
        two_towers,
        scaled(two_towers, 1e3),
        lambda objective, case, rows: oracle_family.devise(rows["x"], rows["y"], objective.margin),
        lambda n: 0.1 * (n - 1),
    ),
    "margin": Entry(
        two_views,
        scaled(two_views, 1e3),
        lambda objective, case, rows: oracle_family.margin_contrast(
            rows["z"], list(case.labels), objective.margin
        ),
        lambda n: 1.0,
    ),
    "cpc": Entry(
        cpc,
        cpc_sharp,
        lambda objective, case, rows: oracle_family.cpc(
            rows["p"], rows["z"], objective.grid, objective.ahead, objective.temperature
        ),
        lambda n: float(np.log(6 * n) + np.log(3 * n)) / 2,
    ),
    "mae": Entry(
        painting,
        scaled(painting, 30),
        lambda objective, case, rows: oracle_family.painted(
            rows["pixels"], rows["target"], case.extra["mask"], 2
        ),
        lambda n: 1.0,
    ),
    "simmim": Entry(
        painting,
        scaled(painting, 30),
        lambda objective, case, rows: oracle_family.painted(
            rows["pixels"], rows["target"], case.extra["mask"], 1
        ),
        lambda n: float(np.sqrt(2 / np.pi)),
    ),
    "beit": Entry(
        beit,
        scaled(beit, 60),
        lambda objective, case, rows: oracle_family.beit(
            rows["logits"], case.extra["codes"], case.extra["mask"]
        ),
        lambda n: float(np.log(512)),
    ),
    "ibot": Entry(ibot, ibot_sharp, ask_ibot, lambda n: 1.5 * float(np.log(1024))),
    "dinov2": Entry(
        ibot,
        ibot_sharp,
        lambda objective, case, rows: (
            ask_ibot(objective, case, rows) + objective.koleo * oracle_family.koleo(rows["x"])
        ),
        lambda n: 1.5 * float(np.log(1024)),
    ),
    "dinov2-sinkhorn": Entry(ibot, ibot_sharp, ask_sinkhorn, lambda n: 1.5 * float(np.log(1024))),
    "clip-locked": Entry(
        scored(scale=14.0),
        scored(scale=100.0),
        lambda objective, case, rows: oracle.clip(rows["x"], rows["y"], rows["scale"][()]),
        lambda n: float(np.log(n)),
    ),
    "siglip-locked": Entry(
        scored(scale=10.0, bias=-2.0),
        scored(scale=100.0, bias=-2.0),
        lambda objective, case, rows: oracle.siglip(
            rows["x"], rows["y"], rows["scale"][()], rows["bias"][()]
        ),
        lambda n: float(np.log(n) + (n - 1) * np.log(n / (n - 1))),
    ),
    "clip-negatives": Entry(
        with_negatives,
        with_negatives_sharp,
        lambda objective, case, rows: oracle_family.clip_with_negatives(
            rows["x"], rows["y"], rows["wrong"], rows["scale"][()]
        ),
        lambda n: float(np.log(3 * n) + np.log(n)) / 2,
    ),
    "swav": Entry(
        swav,
        swav_sharp,
        lambda objective, case, rows: oracle_family.swav(
            rows["z"],
            rows["small"],
            rows["prototypes"],
            [case.state["queue_0"], case.state["queue_1"]],
            objective.temperature,
            objective.sharpness,
        ),
        lambda n: float(np.log(512)),
    ),
}
