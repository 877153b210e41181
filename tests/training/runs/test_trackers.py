"""Trackers get what the log gets; one that fails costs nobody but itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from twinlens.errors import InputError, MissingDependencyError
from twinlens.training.runs.logs import Log, read_log
from twinlens.training.runs.trackers import Trackers, open_trackers


class Notes:
    """A tracker of forty lines, less thirty."""

    seen: list[tuple[int, Mapping[str, float]]] = []  # noqa: RUF012 - told to all

    def begin(self, folder: Path, settings: Mapping[str, Any], step: int) -> None:
        self.seen.clear()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        self.seen.append((step, dict(numbers)))

    def end(self) -> None:
        self.seen.append((-1, {}))


class Broken(Notes):
    """A tracker whose server is away."""

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        raise ConnectionError("no server")


def log_two(folder: Path, trackers: Trackers) -> None:
    trackers.begin(folder, {"lr": 0.1}, 0)
    log = Log(folder, from_step=0, trackers=trackers)
    log.add(1, {"loss": 0.5})
    log.add(2, {"loss": 0.25})
    log.close()


def test_a_class_of_yours_gets_the_numbers(tmp_path: Path) -> None:
    log_two(tmp_path, open_trackers(f"{__name__}:Notes", print))
    assert Notes.seen == [(1, {"loss": 0.5}), (2, {"loss": 0.25}), (-1, {})]


def test_a_tracker_that_fails_is_left_out_and_the_log_is_whole(tmp_path: Path) -> None:
    said: list[str] = []
    log_two(tmp_path, open_trackers(f"{__name__}:Broken,{__name__}:Notes", said.append))
    assert said == [f"tracker {__name__}:Broken failed and is left out: no server"]
    assert len(read_log(tmp_path)) == 2 and len(Notes.seen) == 3


def test_what_is_no_tracker_is_refused() -> None:
    with pytest.raises(InputError, match="choose from tensorboard, mlflow, or MODULE:CLASS"):
        open_trackers("wandb", print)
    with pytest.raises(InputError, match="has no Nothing"):
        open_trackers(f"{__name__}:Nothing", print)
    with pytest.raises(MissingDependencyError, match="cannot be loaded: No module named"):
        open_trackers("nowhere_to_be_found:Tracker", print)


def test_tensorboard_is_left_out_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said: list[str] = []
    open_trackers("tensorboard", said.append).add(1, {"loss": 1.0})
    assert said == []


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log_two(tmp_path, open_trackers("tensorboard", print))
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_mlflow_gets_the_numbers_and_a_resumed_run_goes_on_in_its_own(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    for _ in range(2):
        log_two(tmp_path, open_trackers("mlflow", print))
    run = (tmp_path / "mlflow_run.txt").read_text().strip()
    client = tracking.MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    history = client.get_metric_history(run, "loss")
    assert {(point.step, point.value) for point in history} == {(1, 0.5), (2, 0.25)}
    found = client.get_run(run)
    assert found.data.params == {"lr": "0.1"} and found.info.status == "FINISHED"
