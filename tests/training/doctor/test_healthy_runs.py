"""No false alarm: every method as it should be, on pictures, by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.training.doctor.faulty_methods import draw_shapes, small_run, train_and_examine
from tests.training.family import ALL, PROVEN
from twinlens.training.doctor.verdict import HEALTHY


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_shapes(tmp_path_factory.mktemp("shapes"))


def assert_healthy(method: str, steps: int, seed: int, data: Path, run: Path) -> None:
    config = small_run(method, steps)
    settings = dataclasses.replace(config.settings, seed=seed)
    found = train_and_examine(dataclasses.replace(config, settings=settings), data, run)
    assert (found.state, found.step) == (HEALTHY, steps), found.verdicts


@pytest.mark.parametrize("method", PROVEN)
def test_a_healthy_run_has_no_fault(method: str, data: Path, tmp_path: Path) -> None:
    assert_healthy(method, 60, 0, data, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ALL)
def test_a_healthy_run_of_three_hundred_steps_has_no_fault(
    method: str, seed: int, data: Path, tmp_path: Path
) -> None:
    assert_healthy(method, 300, seed, data, tmp_path / "run")
