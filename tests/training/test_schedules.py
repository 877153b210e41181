"""Schedules are functions of the optimizer step."""

from __future__ import annotations

import pytest

from twinlens.training.schedules import Cosine, Linear, TrainingProgress, warmed_cosine


def test_schedules_are_functions_of_the_optimizer_step() -> None:
    assert Cosine(0.9, 1.0).at(TrainingProgress(0, 10)) == pytest.approx(0.9)
    assert Cosine(0.9, 1.0).at(TrainingProgress(5, 10)) == pytest.approx(0.95)
    assert Cosine(0.9, 1.0).at(TrainingProgress(10, 10)) == pytest.approx(1.0)
    assert Linear(0.04, 0.07, 0.3).at(TrainingProgress(15, 100)) == pytest.approx(0.055)
    assert Linear(0.04, 0.07, 0.3).at(TrainingProgress(90, 100)) == pytest.approx(0.07)
    assert warmed_cosine(TrainingProgress(0, 100), 10) == pytest.approx(0.1)
    assert warmed_cosine(TrainingProgress(9, 100), 10) == pytest.approx(1.0)
    assert warmed_cosine(TrainingProgress(55, 100), 10) == pytest.approx(0.5)
    assert warmed_cosine(TrainingProgress(100, 100), 10, floor=0.1) == pytest.approx(0.1)
