"""Inputs of the methods that learn from teachers, labels or a Gaussian, and their entries."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from tests.training.objectives import oracle, oracle_taught
from tests.training.objectives.case import Case, D, Entry, N, draw, scaled
from twinlens.training.nn.gaussian import draw_directions
from twinlens.training.nn.teachers import TeacherSettings

DIMS = (D, 3)  # of two teachers


def lejepa() -> Case:
    return Case({"z": draw(N, 2, D), "small": draw(N, 3, D, seed=2)}, settings={"directions": 4})


def ask_lejepa(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    lines = draw_directions(D, objective.directions, 9, torch.zeros((), dtype=torch.float64))
    views = np.concatenate([rows["z"], rows["small"]], axis=1)
    numbers = objective.reach, objective.points, objective.gaussian_weight
    return oracle_taught.lejepa(views, 2, lines.numpy(), *numbers)


def chance_of_lejepa(n: int) -> float:
    """What the oracle says of rows that are all 0, by an integral of its own."""
    ts = np.linspace(0, 3, 17)
    normal = np.exp(-(ts**2) / 2)
    return float(0.05 * n * 2 * np.trapezoid((1 - normal) ** 2 * normal, ts))


def finetune() -> Case:
    return Case(
        {"z": draw(N, D)},
        shared={"classes": draw(3, D, seed=1), "scale": np.array(7.0)},
        extra={"other": np.array([1, 0, 0, 2, 1]), "kept": np.array([1.0, 0.25, 0.6, 0.9, 0.5])},
        settings={"classes": 3},
    )


def finetune_sharp() -> Case:
    case = finetune()
    return dataclasses.replace(case, shared={**case.shared, "scale": np.array(100.0)})


def taught(**fields: Any) -> dict[str, Any]:
    return {"teachers": TeacherSettings("two", dims=DIMS, scales=(10.0, 100.0), **fields)}


def distill() -> Case:
    return Case(
        {"p": draw(N, sum(DIMS))},
        extra={"teacher": draw(N, sum(DIMS), seed=1)},
        settings=taught(),
    )


def distill_tokens() -> Case:
    """The student's grid has 2 x 2 cells, as the teacher's has."""
    case = distill()
    return dataclasses.replace(
        case,
        student={**case.student, "q": draw(N, 4, 3, seed=2)},
        extra={**case.extra, "teacher_tokens": draw(N, 4, 3, seed=3)},
        settings=taught(token_dims=(0, 3)),
    )


def ask_distill(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    known = case.extra["teacher"].astype(complex)
    found = np.mean([oracle_taught.apart(p, t) for p, t in zip(rows["p"], known, strict=True)])
    if "q" not in rows:
        return found
    patches = case.extra["teacher_tokens"].astype(complex).reshape(-1, 3)
    cells = zip(rows["q"].reshape(-1, 3), patches, strict=True)
    return found + objective.token_weight * np.mean([oracle_taught.apart(*pair) for pair in cells])


def mobileclip() -> Case:
    return Case(
        {"x": draw(N, D), "y": draw(N, D, seed=1)},
        shared={"scale": np.array(14.0)},
        extra={
            "teacher": draw(N, sum(DIMS), seed=2),
            "teacher_text": draw(N, sum(DIMS), seed=3),
        },
        settings=taught(texts=(True, True)),
    )


def mobileclip_sharp() -> Case:
    return dataclasses.replace(mobileclip(), shared={"scale": np.array(100.0)})


def ask_mobileclip(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    images, texts = (
        np.split(case.extra[name].astype(complex), [D], axis=1)
        for name in ("teacher", "teacher_text")
    )
    there = list(zip(images, texts, (10.0, 100.0), strict=True))
    back = [(text, image, scale) for image, text, scale in there]
    x, y, scale = rows["x"], rows["y"], rows["scale"][()]
    distilled = oracle_taught.distilled_divergence(x, y, there, scale)
    distilled = (distilled + oracle_taught.distilled_divergence(y, x, back, scale)) / 2
    weight = objective.distill_weight
    return (1 - weight) * oracle.clip(x, y, scale) + weight * distilled


TAUGHT = {
    "lejepa": Entry(lejepa, scaled(lejepa, 60), ask_lejepa, chance_of_lejepa),
    "finetune": Entry(
        finetune,
        finetune_sharp,
        lambda objective, case, rows: oracle_taught.finetune(
            rows["z"],
            rows["classes"],
            rows["scale"][()],
            [label % 3 for label in case.labels],
            case.extra["other"],
            case.extra["kept"],
            objective.smoothing,
        ),
        lambda n: float(np.log(2)),
    ),
    "distill": Entry(distill, scaled(distill, 1e3), ask_distill, lambda n: 1.0),
    "distill-tokens": Entry(
        distill_tokens, scaled(distill_tokens, 1e3), ask_distill, lambda n: 1.5
    ),
    "mobileclip": Entry(mobileclip, mobileclip_sharp, ask_mobileclip, lambda n: float(np.log(n))),
}
