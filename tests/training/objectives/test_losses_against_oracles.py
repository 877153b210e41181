"""Loss and gradient of each objective against NumPy, in plain and in hard cases."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.family import PROVEN, VARIANTS
from tests.training.objectives import oracle
from tests.training.objectives.case import Case, D, K, N, draw
from tests.training.objectives.cases import FAMILY
from twinlens.training.objective import LossInputs, Objective
from twinlens.training.objectives import find_method
from twinlens.training.schedules import TrainingProgress


def plain(method: str) -> Case:
    if method in FAMILY:
        return FAMILY[method].plain()
    two = draw(N, 2, D)
    if method == "moco":
        return Case({"q": two}, {"k": draw(N, 2, D, seed=1)}, state={"queue": draw(K, D, seed=2)})
    if method == "mocov3":
        return Case({"q": two}, {"k": draw(N, 2, D, seed=1)})
    if method == "byol":
        return Case({"p": two}, {"z": draw(N, 2, D, seed=1)})
    if method == "dino":
        logits, centre = draw(N, 2, K, seed=1), draw(K, seed=2) * 0.1
        return Case({"logits": draw(N, 4, K)}, {"logits": logits}, state={"centre": centre})
    if method == "clip":
        return Case({"x": draw(N, D), "y": draw(N, D, seed=1)}, shared={"scale": np.array(14.0)})
    if method == "siglip":
        numbers = {"scale": np.array(10.0), "bias": np.array(-2.0)}
        return Case({"x": draw(N, D), "y": draw(N, D, seed=1)}, shared=numbers)
    return Case({"z": two})


def duplicated(method: str) -> Case:
    """All images are the same: every negative is as near as the positive."""
    case = plain(method)
    return dataclasses.replace(
        case,
        student={name: np.repeat(rows[:1], N, axis=0) for name, rows in case.student.items()},
        teacher={name: np.repeat(rows[:1], N, axis=0) for name, rows in case.teacher.items()},
    )


def extreme(method: str) -> Case:
    """Logits of about +-60 and more: exponentials that fp16 and naive sums cannot hold."""
    if method in FAMILY:
        return FAMILY[method].extreme()
    case = plain(method)
    if method in ("clip", "siglip"):
        shared = {**case.shared, "scale": np.array(100.0)}
        return Case(case.student, case.teacher, shared, case.state)
    if method == "dino":
        return Case(case.student, {"logits": case.teacher["logits"] * 2}, {}, case.state)
    settings = {} if method == "byol" else {"temperature": 0.015}
    return Case(case.student, case.teacher, {}, case.state, settings=settings)


def lonely(method: str) -> Case:
    """One image alone in its class: where a loss asks by class, it has only its other view."""
    case = plain(method)
    return dataclasses.replace(case, labels=(0, 1, 1, 1, 2))


def smallest(method: str) -> Case:
    """Two images: one positive and one negative each."""
    case = plain(method)
    return dataclasses.replace(
        case,
        student={name: rows[:2] for name, rows in case.student.items()},
        teacher={name: rows[:2] for name, rows in case.teacher.items()},
        labels=(0, 1),
        extra={name: rows[:2] for name, rows in case.extra.items()},
    )


CASES: Mapping[str, Callable[[str], Case]] = {
    "plain": plain,
    "duplicated": duplicated,
    "extreme": extreme,
    "lonely": lonely,
    "smallest": smallest,
}


# It chooses one of several rows; where these are equally far, any is right, and no slope the only.
MINED = "triplet"


def open_objective(name: str, settings: Mapping[str, Any]) -> Objective:
    method, fields = VARIANTS.get(name, (name, {}))
    return find_method(method)(**{**fields, **settings})


def ask_oracle(method: str, case: Case) -> Callable[[oracle.Rows], oracle.Number]:
    objective: Any = open_objective(method, case.settings)
    teacher = {name: rows.astype(complex) for name, rows in case.teacher.items()}
    state = case.state

    def loss(rows: oracle.Rows) -> oracle.Number:
        if method in FAMILY:
            return FAMILY[method].ask(objective, case, rows)
        if method == "simclr":
            return oracle.nt_xent(rows["z"], objective.temperature)
        if method == "supcon":
            t, base = objective.temperature, objective.base_temperature
            return oracle.supcon(rows["z"], list(case.labels), t, base)
        if method == "moco":
            return oracle.moco(rows["q"], teacher["k"], state["queue"], objective.temperature)
        if method == "mocov3":
            return oracle.mocov3(rows["q"], teacher["k"], objective.temperature)
        if method == "byol":
            return oracle.byol(rows["p"], teacher["z"])
        if method == "dino":
            cold, warm = 0.07, objective.student_temperature
            return oracle.dino(rows["logits"], teacher["logits"], state["centre"], cold, warm)
        if method == "clip":
            return oracle.clip(rows["x"], rows["y"], rows["scale"][()])
        return oracle.siglip(rows["x"], rows["y"], rows["scale"][()], rows["bias"][()])

    return loss


def ask_objective(method: str, case: Case, dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
    def tensors(arrays: dict[str, Any]) -> dict[str, Tensor]:
        return {name: torch.tensor(values, dtype=dtype) for name, values in arrays.items()}

    student, shared = tensors(case.student), tensors(case.shared)
    moved = {**student, **shared}
    for tensor in moved.values():
        tensor.requires_grad_()
    extra = {name: torch.tensor(values) for name, values in case.extra.items()}
    extra["labels"] = torch.tensor(case.labels)
    at = TrainingProgress(9, 10)  # DINO's teacher temperature has reached its last value
    inputs = LossInputs(
        student=student,
        teacher=tensors(case.teacher),
        shared=shared,
        state=tensors(case.state),
        extra=extra,
        progress=at,
        teacher_shared=tensors(case.teacher_shared),
    )
    loss = open_objective(method, case.settings).loss(inputs)["loss"]
    torch.autograd.backward(loss)
    # No gradient at all is a gradient of zero: where a method stops it, so must its oracle.
    grads = {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in moved.items()}
    return float(loss.detach()), grads


@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("method", PROVEN)
def test_loss_and_gradient_equal_the_oracle(method: str, case_name: str) -> None:
    case = CASES[case_name](method)
    rows = {
        name: np.asarray(values, dtype=complex)
        for name, values in {**case.student, **case.shared}.items()
    }
    ask = ask_oracle(method, case)
    value, slopes = float(ask(rows).real), oracle.slopes(ask, rows)
    size = math.sqrt(sum(float((slope**2).sum()) for slope in slopes.values()))
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        loss, grads = ask_objective(method, case, dtype)
        assert loss == pytest.approx(value, rel=tolerance, abs=tolerance * 0.1)
        assert set(grads) == set(slopes)
        if case_name == "duplicated" and method == MINED:
            assert all(slope.isfinite().all() for slope in grads.values())
            continue
        for name, slope in slopes.items():
            gap = float(np.linalg.norm(grads[name].double().numpy() - slope))
            # Where the true gradient vanishes (duplicates), what is left is rounding.
            assert gap <= tolerance * max(size, 1e-2), (name, dtype)


def test_an_anchor_without_positives_adds_nothing_and_gives_no_nan() -> None:
    """With one view an image alone in its class has no positive at all."""
    from twinlens.training.nn.contrast import supcon_loss

    rows = torch.tensor(draw(4, D), requires_grad=True)
    loss = supcon_loss(rows, torch.tensor([0, 0, 1, 2]), 10.0)
    torch.autograd.backward(loss)
    assert torch.isfinite(loss) and rows.grad is not None and torch.isfinite(rows.grad).all()


CHANCE: Mapping[str, Callable[[int], float]] = {
    "simclr": lambda n: math.log(2 * n - 1),
    "moco": lambda n: math.log(4097),
    "mocov3": lambda n: 0.8 * math.log(n),
    "byol": lambda n: 4.0,
    "supcon": lambda n: math.log(2 * n - 1) / 0.7,
    "dino": lambda n: math.log(1024),
    "clip": lambda n: math.log(n),
    "siglip": lambda n: math.log(n) + (n - 1) * math.log(n / (n - 1)),
    **{name: entry.chance for name, entry in FAMILY.items()},
}


@pytest.mark.parametrize("method", PROVEN)
def test_the_chance_value_is_what_the_formula_says(method: str) -> None:
    assert open_objective(method, {}).chance(128) == pytest.approx(CHANCE[method](128))


@pytest.mark.parametrize(
    "method",
    ["simclr", "supcon", "mocov3", "clip", "clip-negatives", "vicreg", "cpc", "devise", "triplet"],
)
def test_the_chance_value_is_the_loss_of_equal_rows(method: str) -> None:
    """An encoder that answers the same to everything sits exactly on the plateau."""
    case = plain(method)
    same = Case(
        {name: np.ones_like(rows) for name, rows in case.student.items()},
        {name: np.ones_like(rows) for name, rows in case.teacher.items()},
        case.shared,
        case.state,
    )
    loss, _ = ask_objective(method, same, torch.float64)
    assert loss == pytest.approx(open_objective(method, {}).chance(N), rel=1e-9)
