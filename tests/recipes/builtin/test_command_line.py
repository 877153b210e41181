"""`python -m recipes.builtin`, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.builtin.__main__ import main

ROOT = Path(__file__).parents[3]


def test_show_prints_its_own_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--show", "--set", "steps=7", "--set", "mix.icons=9"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["steps"], shown["mix"]["icons"]) == (7, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--set", "stepps=1"], "did you mean 'steps'"),
        (["--set", "steps=1"], "recipes.builtin RUN"),
        (["run"], "TWINLENS_DATA is not set"),
        (["run", "nowhere"], "nowhere/emoji64/train.zip does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWINLENS_DATA", raising=False)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not any(tmp_path.iterdir())


def test_the_module_runs_from_a_checkout() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recipes.builtin", "--show", "--set", "seed=3"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["seed"] == 3
