"""Between two logged steps nothing waits for an accelerator; and what is logged is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.family import small_config, with_settings, write_images
from tests.training.loop.accelerated import WaitCounter, count_as_accelerator
from twinlens.training.loop.loop import NotFiniteError, take_step, train
from twinlens.training.loop.opening import open_session
from twinlens.training.progress import Silent
from twinlens.training.runs.logs import read_log

STEPS = 6
METHODS = ("simclr", "moco", "byol", "dino", "clip")


def log_of(method: str, folder: Path, **settings: object) -> list[dict[str, float]]:
    """Return the log of a run of a few steps, and of what would wait in each of them."""
    data = str(write_images(folder / "data", 20))
    usual: dict[str, object] = {"steps": STEPS, "log_every": 3, "save_every": 100}
    config = with_settings(small_config(method), **usual | settings)
    session = open_session(config, data, folder / "run", Silent())
    try:
        for step in range(STEPS):
            with WaitCounter() as counter:
                take_step(session, step, Silent())
            waits.append(sum(counter.found.values()))
            named.append(dict(counter.found))
    finally:
        session.close()
    return read_log(folder / "run")


waits: list[int] = []
named: list[dict[str, int]] = []


@pytest.fixture(autouse=True)
def _no_waits() -> None:
    waits.clear()
    named.clear()


@pytest.mark.parametrize("method", METHODS)
def test_no_step_but_the_one_that_saves_waits(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_as_accelerator(monkeypatch)
    log_of(method, tmp_path)
    assert waits[:-1] == [0] * (STEPS - 1), named


def test_what_is_logged_is_what_a_cpu_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = log_of("simclr", tmp_path / "plain", monitor_share=1e9)
    count_as_accelerator(monkeypatch)
    queued = log_of("simclr", tmp_path / "queued", monitor_share=1e9)
    assert [row["step"] for row in plain] == [row["step"] for row in queued] == [3, 6]
    assert plain[-1].keys() == queued[-1].keys()
    for name in ("loss", "gradient", "rank", "head_rank", "update/image"):
        assert queued[0][name] == pytest.approx(plain[0][name], rel=0.05), name


def test_a_loss_that_is_not_finite_stops_the_run_when_its_numbers_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_as_accelerator(monkeypatch)
    data = str(write_images(tmp_path / "data", 20))
    config = with_settings(small_config("simclr"), steps=9, log_every=1, save_every=9, lr=1e30)
    with pytest.raises(NotFiniteError, match="no checkpoint was due before it"):
        train(config, data, tmp_path / "run")
    assert read_log(tmp_path / "run")[-1]["not_finite"] == 1


def test_the_count_would_notice_a_wait(tmp_path: Path) -> None:
    log_of("simclr", tmp_path)  # a CPU checks its loss at each step
    assert min(waits) >= 1
    with WaitCounter() as counter:
        rows = torch.arange(3)
        rows[rows > 1], bool(rows[0] > 1), rows.nonzero()
    assert sum(counter.found.values()) >= 3
