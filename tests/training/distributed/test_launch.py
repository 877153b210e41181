"""`devices=N`: local ranks that start and end together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.family import write_images
from twinlens.training.distributed import launch

ROOT = Path(__file__).parents[3]


def start(*commands: str) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", command]) for command in commands]


def test_ranks_that_end_well_give_no_code() -> None:
    assert launch._wait(start("pass", "pass")) == 0


def test_the_first_to_fail_is_told_and_the_others_are_stopped() -> None:
    ranks = start("import time; time.sleep(600)", "raise SystemExit(7)")
    assert launch._wait(ranks) == 7
    launch._stop(ranks)
    assert all(rank.returncode is not None for rank in ranks)


def test_a_rank_starts_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launch.wants_launch(2) and not launch.wants_launch(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launch.wants_launch(2)


@pytest.mark.slow
def test_the_command_trains_on_two_ranks(tmp_path: Path) -> None:
    write_images(tmp_path / "data", 16)
    sets = ["steps=2", "batch=8", "devices=2", "device=cpu", "threads=1", "hidden=16", "dim=8"]
    command = [sys.executable, "-m", "twinlens.cli.main", "train", "simclr", "data", "--out", "run"]
    command += [part for pair in sets for part in ("--set", pair)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert "trained simclr for 2 steps" in done.stdout
    facts = (tmp_path / "run/checkpoints/step-00000002/checkpoint.json").read_text()
    assert '"world": 2' in facts
