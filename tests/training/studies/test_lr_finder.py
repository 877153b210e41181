"""The finder's rate: read off the strides, in the units of `lr`, without a trace."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.training.doctor.faulty_methods import draw_shapes, small_run
from twinlens.cli.main import run as run_command
from twinlens.errors import InputError
from twinlens.training.progress import Silent
from twinlens.training.studies.lr_finder import STRIDE, Trial, find_rate


def test_the_rate_is_where_steps_reach_one_percent_of_the_weights() -> None:
    rates = tuple(10.0**power for power in range(-5, 0))
    trial = Trial(rates, (1.0,) * 5, tuple(rate / 2 for rate in rates))
    assert trial.pick() == pytest.approx(2 * STRIDE)


def test_a_method_whose_weights_never_move_is_an_error() -> None:
    with pytest.raises(InputError, match="moves the encoder too little"):
        Trial((1e-3, 1.0), (1.0, 1.0), (0.0, 0.0)).pick()


def test_the_rate_is_in_the_units_of_lr(tmp_path: Path) -> None:
    """With linear scaling a batch of 16 takes lr / 16 of what is set."""
    data = str(draw_shapes(tmp_path / "data", 32))
    config = small_run("simclr", 50)
    plain, trial = find_rate(config, data, Silent())
    linear = dataclasses.replace(config.settings, lr_scaling="linear")
    scaled, _ = find_rate(dataclasses.replace(config, settings=linear), data, Silent())
    assert scaled == pytest.approx(16 * plain)
    assert 1e-3 < plain < 1 and trial.strides[-1] > STRIDE
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_command_prints_one_line_and_draws_beside_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(draw_shapes(tmp_path / "data", 32))
    sets = ("encoder=resnet-tiny", "image_size=16", "batch=16", "device=cpu", "threads=1")
    command = ["train", "simclr", data, "--find-lr", "--out", str(tmp_path / "run")]
    for pair in sets:
        command += ["--set", pair]
    with pytest.raises(SystemExit) as stop:
        run_command(command)
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("lr=")
    assert "<polyline" in (tmp_path / "run.find-lr.html").read_text()
    assert not (tmp_path / "run").exists()
