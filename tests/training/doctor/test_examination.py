"""What the doctor makes of a log: early, healthy, flat yet alive; and the command's answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.training.doctor.faulty_methods import (
    LoosePrototypes,
    draw_shapes,
    small_run,
    small_run_of,
)
from tests.training.family import SMALL
from twinlens.cli.main import run as run_command
from twinlens.errors import NotFoundError
from twinlens.training.doctor.examination import diagnose, examine
from twinlens.training.doctor.verdict import EARLY, HEALTHY, NOTE, SICK
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.runs.logs import read_log


class RecordedDisplay(Silent):
    """Keeps the lines shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def log_of(steps: int, **values: float) -> list[Mapping[str, Any]]:
    """Return a healthy SimCLR log with some numbers changed."""
    usual = {
        "loss": 2.0,
        "rank": 20.0,
        "spread": 0.8,
        "head_rank": 10.0,
        "head_spread": 0.7,
        "radial_gradient": 1e-7,
        "grad/image": 1.0,
        "update/image": 0.003,
        "variety": 0.2,
    }
    return [{"step": step, **usual, **values} for step in range(10, steps + 1, 10)]


def test_a_run_of_few_steps_gets_no_verdict() -> None:
    found = diagnose(small_run("simclr", 100), log_of(40))
    assert (found.state, found.exit_code, found.verdicts) == (EARLY, 4, ())


def test_an_empty_log_is_too_early() -> None:
    assert diagnose(small_run("simclr", 100), []).state == EARLY


def test_a_run_with_good_numbers_is_healthy() -> None:
    found = diagnose(small_run("simclr", 100), log_of(100))
    assert (found.state, found.exit_code, found.verdicts) == (HEALTHY, 0, ())


def test_a_flat_loss_alone_is_no_collapse() -> None:
    config = small_run("simclr", 100)
    found = diagnose(config, log_of(100, loss=config.objective.chance(16)))
    assert found.state == HEALTHY
    assert [(v.name, v.severity) for v in found.verdicts] == [("loss at its chance plateau", NOTE)]


def test_equal_embeddings_are_a_collapse_whatever_the_loss_says() -> None:
    found = diagnose(small_run("simclr", 100), log_of(100, head_spread=1e-4, spread=1e-3))
    assert found.state == SICK and [v.name for v in found.verdicts] == ["collapse"]


def test_alike_embeddings_are_no_collapse_while_the_rate_still_rises() -> None:
    config = small_run("simclr", 100)
    slow = type(config.settings)(**{**vars(config.settings), "warmup": 60})
    rows = log_of(100, head_spread=1e-4)
    assert diagnose(type(config)("simclr", config.objective, slow), rows).state == HEALTHY
    assert diagnose(config, rows).state == SICK


def test_a_cause_hides_the_collapse_that_follows_from_it() -> None:
    rows = log_of(100, head_spread=1e-4, radial_gradient=0.4)
    assert [v.name for v in diagnose(small_run("simclr", 100), rows).verdicts] == [
        "missing L2 norm"
    ]


def test_one_odd_step_is_not_enough_for_a_verdict() -> None:
    rows = [*log_of(90), {**log_of(100)[-1], "radial_gradient": 0.9, "head_spread": 0.0}]
    assert diagnose(small_run("simclr", 100), rows).state == HEALTHY


def test_the_loop_prints_a_fault_once_and_the_command_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, display = draw_shapes(tmp_path / "data", 32), RecordedDisplay()
    config = small_run_of(LoosePrototypes(**SMALL["swav"]), 30)
    train(config, str(data), tmp_path / "run", display)
    alarms = [line for line in display.lines if line.startswith("doctor: ")]
    assert len(alarms) == 1 and "prototypes not normalised" in alarms[0] and "Remedy" in alarms[0]
    for arguments in (
        ["doctor", str(tmp_path / "run")],
        ["doctor", str(tmp_path / "run"), "--json"],
    ):
        with pytest.raises(SystemExit) as stop:
            run_command(arguments)
        assert stop.value.code == 3
        printed = capsys.readouterr().out
        assert "prototypes not normalised" in printed
    answer = json.loads(printed)
    assert answer["state"] == "sick" and answer["readings"]["chance"] > 0


@pytest.mark.parametrize(
    ("steps", "numbers", "code", "word"),
    [(100, {}, 0, "healthy"), (100, {"radial_gradient": 0.4}, 3, "sick"), (30, {}, 4, "too early")],
)
def test_the_command_returns_the_state_as_its_exit_code(
    steps: int,
    numbers: dict[str, float],
    code: int,
    word: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "config.json").write_text(small_run("simclr", 100).to_json())
    lines = [json.dumps(row) + "\n" for row in log_of(steps, **numbers)]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    with pytest.raises(SystemExit) as stop:
        run_command(["doctor", str(tmp_path)])
    assert stop.value.code == code
    printed = capsys.readouterr().out
    assert f"{tmp_path}: {word}" in printed and "head_spread" in printed


def test_measuring_changes_no_number_of_the_training(tmp_path: Path) -> None:
    data = str(draw_shapes(tmp_path / "data", 32))
    losses = {}
    for measured in (True, False):
        config = small_run("moco", 12)
        config = type(config)(
            config.method,
            config.objective,
            type(config.settings)(**{**vars(config.settings), "doctor": measured}),
        )
        train(config, data, tmp_path / str(measured))
        rows = read_log(tmp_path / str(measured))
        losses[measured] = [row["loss"] for row in rows]
        assert ("head_spread" in rows[-1]) == measured
    assert losses[True] == losses[False]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        examine(tmp_path)


def test_a_number_on_held_out_data_that_stays_under_its_best_is_noted() -> None:
    rows = log_of(80)
    scores = [40.0, 60.0, 50.0, 52.0, 51.0]
    checked = [{"step": 10 * n, "eval/knn": score} for n, score in enumerate(scores)]
    found = diagnose(small_run("simclr", 100), [*checked, *rows])
    assert found.state == HEALTHY
    assert [(it.name, it.severity) for it in found.verdicts] == [("held-out data falls", NOTE)]
    assert (found.readings["eval/knn (last)"], found.readings["eval/knn (best)"]) == (51.0, 60.0)
    kept = [*checked[:3], {"step": 25, "eval/knn": 59.0}, *checked[3:]]
    assert not diagnose(small_run("simclr", 100), [*kept, *rows]).verdicts
