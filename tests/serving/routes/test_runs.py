"""`/runs`: the training runs of one folder, and their numbers while they are being written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from twinlens.serving.routes.runs import MOST_ROWS
from twinlens.serving.settings import ServerSettings

Make = Callable[..., TestClient]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    (folder / "first").mkdir(parents=True)
    config = {"method": "clip", "training": {"steps": 40}}
    (folder / "first" / "config.json").write_text(json.dumps(config))
    rows = [json.dumps({"step": step, "loss": 1 / (step + 1)}) for step in range(0, 40, 10)]
    (folder / "first" / "log.jsonl").write_text("\n".join(rows) + '\n{"step": 40, "lo')
    (folder / "no run").mkdir()
    (tmp_path / "log.jsonl").write_text('{"step": 1, "secret": 1}\n')
    return folder


def test_runs_are_listed_with_their_method_and_length(make_client: Make, runs: Path) -> None:
    (run,) = make_client(ServerSettings(runs=runs)).get("/runs").json()["data"]
    assert (run["name"], run["method"], run["steps"], run["is_live"]) == ("first", "clip", 40, True)


def test_rows_come_from_a_step_on_and_half_a_line_waits(make_client: Make, runs: Path) -> None:
    client = make_client(ServerSettings(runs=runs))
    rows = client.get("/runs/first/log").json()["rows"]
    assert [row["step"] for row in rows] == [0, 10, 20, 30]
    with (runs / "first" / "log.jsonl").open("a") as log:
        log.write('ss": 0.5}\n')
    rows = client.get("/runs/first/log", params={"after": 20}).json()["rows"]
    assert rows[-1] == {"step": 40, "loss": 0.5} and len(rows) == 2


def test_a_long_log_is_thinned_and_keeps_its_end(make_client: Make, runs: Path) -> None:
    rows = [json.dumps({"step": step}) for step in range(3 * MOST_ROWS)]
    (runs / "first" / "log.jsonl").write_text("\n".join(rows))
    got = make_client(ServerSettings(runs=runs)).get("/runs/first/log").json()["rows"]
    assert len(got) <= MOST_ROWS and got[-1]["step"] == 3 * MOST_ROWS - 1


@pytest.mark.parametrize("name", ["..", "%2e%2e", "no%20run", "none", "..%2fruns%2ffirst"])
def test_only_listed_runs_are_read(make_client: Make, runs: Path, name: str) -> None:
    answer = make_client(ServerSettings(runs=runs)).get(f"/runs/{name}/log")
    assert answer.status_code == 404 and "secret" not in answer.text
    assert str(runs) not in answer.text


def test_without_a_folder_there_is_none(make_client: Make) -> None:
    assert make_client(ServerSettings()).get("/runs").json()["data"] == []
