"""Twelve faults put into real runs; the doctor names each within 200 steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.doctor import faulty_methods
from tests.training.doctor.faulty_methods import (
    save_picture,
    small_run,
    small_run_of,
    train_and_examine,
)
from tests.training.family import SMALL
from twinlens.training.config import Config
from twinlens.training.doctor.verdict import SICK, Diagnosis
from twinlens.training.schedules import Linear
from twinlens.training.views.crops import Crops

QUICK = 30  # steps, for faults that a measurement shows at once
SLOWLY = 120  # steps, for those that must first do harm
FEW_CROPS: dict[str, Any] = {"local": Crops(0)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_methods.draw_shapes(tmp_path_factory.mktemp("shapes"))


def named(diagnosis: Diagnosis) -> list[str]:
    assert diagnosis.state == SICK and diagnosis.exit_code == 3
    assert diagnosis.step <= 200
    return [verdict.name for verdict in diagnosis.verdicts]


def small(objective: Any, steps: int = QUICK, **fields: Any) -> Config:
    return small_run_of(objective(**(SMALL[objective.name] | fields)), steps)


def test_a_teacher_that_is_an_alias_of_the_student(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_methods.aliased_teacher(monkeypatch):
        found = train_and_examine(small_run("byol", QUICK), data, tmp_path / "run")
    assert named(found) == ["teacher is the student"]


def test_a_missing_stop_gradient(data: Path, tmp_path: Path) -> None:
    found = train_and_examine(small(faulty_methods.NoStop), data, tmp_path / "run")
    assert named(found) == ["missing stop-gradient"]


@pytest.mark.parametrize("objective", [faulty_methods.NoPredictor, faulty_methods.NoPredictorByol])
def test_a_missing_predictor(objective: type[Any], data: Path, tmp_path: Path) -> None:
    found = train_and_examine(small(objective), data, tmp_path / "run")
    assert named(found) == ["missing predictor"]


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_a_teacher_temperature_that_is_too_high(
    temperature: float, data: Path, tmp_path: Path
) -> None:
    flat = Linear(temperature, temperature)
    config = small_run("dino", SLOWLY, teacher_temperature=flat, **FEW_CROPS)
    assert named(train_and_examine(config, data, tmp_path / "run")) == [
        "teacher temperature too high"
    ]


def test_no_centring(data: Path, tmp_path: Path) -> None:
    config = small(faulty_methods.NoCentre, SLOWLY, **FEW_CROPS)
    assert named(train_and_examine(config, data, tmp_path / "run")) == ["no centring"]


def test_prototypes_that_are_not_normalised(data: Path, tmp_path: Path) -> None:
    found = train_and_examine(
        small(faulty_methods.LoosePrototypes, **FEW_CROPS), data, tmp_path / "run"
    )
    assert named(found) == ["prototypes not normalised"]


def test_a_missing_l2_norm(data: Path, tmp_path: Path) -> None:
    found = train_and_examine(small(faulty_methods.NoNorm), data, tmp_path / "run")
    assert named(found) == ["missing L2 norm"]


def test_a_missing_variance_term(data: Path, tmp_path: Path) -> None:
    found = train_and_examine(small_run("vicreg", SLOWLY, variance=0.0), data, tmp_path / "run")
    assert named(found) == ["missing variance term"]


def test_a_queue_that_is_enqueued_before_the_loss(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_methods.early_queue(monkeypatch):
        found = train_and_examine(small_run("moco", QUICK, queue=64), data, tmp_path / "run")
    assert named(found) == ["queue enqueued before the loss"]


@pytest.mark.parametrize("method", ["simclr", "vicreg"])
def test_a_learning_rate_that_is_thirty_times_too_high(
    method: str, data: Path, tmp_path: Path
) -> None:
    config = small_run(method, QUICK)
    hasty = dataclasses.replace(config.settings, lr=30 * config.settings.lr)
    found = train_and_examine(dataclasses.replace(config, settings=hasty), data, tmp_path / "run")
    assert named(found) == ["learning rate too high"]


def test_constant_data(tmp_path: Path) -> None:
    pixels = np.full((faulty_methods.SIDE, faulty_methods.SIDE, 3), 120, np.uint8)
    for index in range(32):
        save_picture(tmp_path / "data" / f"{index}.png", pixels)
    found = train_and_examine(small_run("simclr", QUICK), tmp_path / "data", tmp_path / "run")
    assert named(found) == ["constant data"]


def test_a_frozen_encoder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_methods.frozen_encoder(monkeypatch):
        found = train_and_examine(small_run("simclr", QUICK), data, tmp_path / "run")
    assert named(found) == ["frozen encoder"]
