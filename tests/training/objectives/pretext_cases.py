"""Inputs of the pretext tasks and of the triplet loss, and their entries in the proofs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.training.objectives import oracle, oracle_pretext
from tests.training.objectives.case import Case, D, Entry, K, N, draw, scaled
from twinlens.training.views.lab import find_bins

BIN_SIDE = 40.0


def rotation() -> Case:
    return Case({"logits": draw(N, 4, 4)})


def puzzle(answers: int) -> Case:
    drawn = np.random.default_rng(7).integers(0, answers, N)
    return Case({"logits": draw(N, 1, answers)}, extra={"answer": drawn})


def jigsaw() -> Case:
    return dataclasses.replace(puzzle(K), settings={"orders": K})


def context() -> Case:
    return puzzle(8)


def ask_puzzle(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    return oracle_pretext.answered(rows["logits"], case.extra["answer"][:, None])


def ask_rotation(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    turns = np.tile(np.arange(4), (len(rows["logits"]), 1))
    return oracle_pretext.answered(rows["logits"], turns)


def colorize() -> Case:
    bins = len(find_bins(BIN_SIDE))
    return Case(
        {"logits": draw(N, 6, bins), "shares": draw(N, bins, seed=1)},
        state={"shares": draw(bins, seed=2) ** 2},
        extra={"colours": 30 * draw(N, 6, 2, seed=3)},
        settings={"bin_side": BIN_SIDE},
    )


def colorize_sharp() -> Case:
    """Odds of 60, no colour seen so far, and colours that no screen shows."""
    case = scaled(colorize, 60)()
    state = {"shares": np.zeros_like(case.state["shares"])}
    extra = {"colours": 10 * case.extra["colours"]}
    return dataclasses.replace(case, state=state, extra=extra)


def ask_colorize(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    return oracle_pretext.coloured(
        rows["logits"],
        case.extra["colours"],
        find_bins(BIN_SIDE),
        case.state["shares"],
        objective.nearest,
        objective.spread,
        objective.uniform,
    )


def autoencoder() -> Case:
    return Case({"pixels": draw(N, 12), "target": draw(N, 12, seed=1)})


def ask_autoencoder(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    return oracle_pretext.rebuilt(rows["pixels"], rows["target"])


def triplet() -> Case:
    return Case({"z": draw(N, 2, D)})


def ask_triplet(objective: Any, case: Case, rows: oracle.Rows) -> oracle.Number:
    return oracle_pretext.triplet(rows["z"], list(case.labels), objective.margin)


REBUILT = Entry(autoencoder, scaled(autoencoder, 30), ask_autoencoder, lambda n: 1.0)
PRETEXT = {
    "rotation": Entry(rotation, scaled(rotation, 60), ask_rotation, lambda n: float(np.log(4))),
    "jigsaw": Entry(jigsaw, scaled(jigsaw, 60), ask_puzzle, lambda n: float(np.log(100))),
    "context": Entry(context, scaled(context, 60), ask_puzzle, lambda n: float(np.log(8))),
    "colorize": Entry(
        colorize, colorize_sharp, ask_colorize, lambda n: float(np.log(len(find_bins(10.0))))
    ),
    "autoencoder": REBUILT,
    "autoencoder-denoising": REBUILT,
    "triplet": Entry(triplet, scaled(triplet, 1e3), ask_triplet, lambda n: 0.2),
}
