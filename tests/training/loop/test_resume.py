"""A run that dies and is started again ends with the bytes of one that never died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.training.family import PROVEN, small_config, with_settings, write_images
from twinlens.training.config import Config, apply_sets
from twinlens.training.doctor.health_monitor import HealthMonitor
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.checkpoints import (
    MONITORS,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    find_checkpoint,
    list_checkpoints,
)
from twinlens.training.runs.logs import read_log
from twinlens.training.runs.run import CHECKPOINTS, open_run


class Died(BaseException):
    """Stands for the end of the process: nothing below may catch it."""


class DiesAt(Silent):
    """A display that ends the run at a given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        if what not in ("decoding", "embedding", "reading captions") and done == self.step:
            raise Died


def last_tensors(run: Path, *wanted: str) -> dict[str, Tensor]:
    """Return what the last checkpoint holds; without the monitors', which the clock decides."""
    folder = find_checkpoint(run / "checkpoints")
    assert folder is not None
    return {
        f"{part.stem}/{name}": tensor
        for part in sorted(folder.glob("*.safetensors"))
        if part.stem in (wanted or (WEIGHTS, STATE, OPTIMIZER))
        for name, tensor in load_file(part).items()
    }


def assert_same_bytes(one: Path, other: Path) -> None:
    left, right = last_tensors(one), last_tensors(other)
    assert left.keys() == right.keys()
    different = [
        name for name in left if left[name].numpy().tobytes() != right[name].numpy().tobytes()
    ]
    assert not different


def resumable(method: str, encoder: str = "resnet-tiny") -> Config:
    return small_config(method, encoder=encoder, steps=5, save_every=2, log_every=1, clip=1.0)


@pytest.mark.parametrize("method", PROVEN)
def test_a_run_killed_between_checkpoints_ends_with_the_same_bytes(
    method: str, tmp_path: Path
) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = resumable(method)
    train(config, data, tmp_path / "straight")
    with pytest.raises(Died):
        train(config, data, tmp_path / "killed", DiesAt(3))
    finished = train(config, data, tmp_path / "killed")
    assert finished.step == 5
    assert_same_bytes(tmp_path / "straight", tmp_path / "killed")
    rows = [read_log(tmp_path / name) for name in ("straight", "killed")]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]


def test_dropped_branches_rates_by_layer_and_a_frozen_layer_resume_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = with_settings(
        resumable("ibot"),
        drop_path=0.5,
        layer_scale=0.1,
        layer_decay=0.8,
        patch_rate=0.0,
        optimizer="adamw",
        lr=1e-3,
    )
    train(config, data, tmp_path / "straight")
    with pytest.raises(Died):
        train(config, data, tmp_path / "killed", DiesAt(3))
    train(config, data, tmp_path / "killed")
    assert_same_bytes(tmp_path / "straight", tmp_path / "killed")
    before = build_network(config)["image"].state_dict()
    after = last_tensors(tmp_path / "straight", WEIGHTS)
    changed = {
        name for name in before if not torch.equal(before[name], after[f"weights/image.{name}"])
    }
    assert changed == before.keys() - {"embed.weight", "embed.bias"}


def test_a_run_that_streams_its_pictures_ends_with_the_bytes_of_one_that_holds_them(
    tmp_path: Path,
) -> None:
    """Pictures of several sizes, and crops of two."""
    data = write_images(tmp_path / "data", 20)
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        with Image.open(path) as image:
            image.resize((40 + 3 * number, 50)).save(path)
    config = resumable("dino", "vit-nano/4")
    for name, room in (("held", 4.0), ("streamed", 0.0)):
        train(with_settings(config, memory_gb=room), str(data), tmp_path / name)
    assert_same_bytes(tmp_path / "held", tmp_path / "streamed")


def test_a_checkpoint_holds_weights_optimizer_teacher_queue_and_cursor(tmp_path: Path) -> None:
    train(resumable("moco"), str(write_images(tmp_path / "data", 20)), tmp_path / "run")
    names = set(last_tensors(tmp_path / "run"))
    assert "weights/image.stem.0.weight" in names
    assert "optimizer/image.stem.0.weight/momentum_buffer" in names
    assert "state/ema_teacher.parts.image.stem.0.weight" in names
    assert {"state/queue", "state/queue_cursor"} <= names


def test_a_run_whose_checkpoint_has_the_former_names_of_the_teacher_resumes(tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = resumable("dino", "vit-nano")
    train(config, data, tmp_path / "straight")
    with pytest.raises(Died):
        train(config, data, tmp_path / "former", DiesAt(3))
    (checkpoint,) = list_checkpoints(tmp_path / "former" / CHECKPOINTS)
    path = checkpoint / f"{STATE}.safetensors"
    former = {name.replace("ema_teacher.", "twin."): rows for name, rows in load_file(path).items()}
    save_file(former, path)
    prefix = "twin.parts.image."
    teacher = {name: rows for name, rows in former.items() if name.startswith(prefix)}
    served = open_run(tmp_path / "former").image_encoder.state_dict()
    assert teacher.keys() == {prefix + name for name in served}
    assert all(torch.equal(rows, teacher[prefix + name]) for name, rows in served.items())
    train(config, data, tmp_path / "former")
    assert_same_bytes(tmp_path / "straight", tmp_path / "former")


def test_what_monitors_learned_is_kept_over_a_resume(tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = small_config("simclr", steps=2, save_every=1, monitor_share=1e9)
    with pytest.raises(Died):
        train(with_settings(config, log_every=1), data, tmp_path / "run", DiesAt(1))
    assert len(last_tensors(tmp_path / "run", MONITORS)["monitors/rows"]) == 8
    train(with_settings(config, log_every=1), data, tmp_path / "run")
    assert len(last_tensors(tmp_path / "run", MONITORS)["monitors/rows"]) == 16


class Recorder(Silent):
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def _usual_ctrl_c() -> Iterator[None]:
    """Give Ctrl-C its usual meaning: a shell that runs the tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_usual_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_step_waits_for_its_end(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = resumable("byol")
    train(config, data, tmp_path / "straight")
    real, calls, display = HealthMonitor.after_step, [], Recorder()

    def interrupt(*given: Any) -> None:  # weights have moved, the teacher has not
        calls.append(given)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        real(*given)

    monkeypatch.setattr(HealthMonitor, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, data, tmp_path / "stopped", display)
    assert display.said[-1] == "stopped after step 3; the same command continues from there"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    train(config, data, tmp_path / "stopped")
    assert_same_bytes(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.usefixtures("_usual_ctrl_c")
def test_a_second_signal_does_not_wait_and_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(write_images(tmp_path / "data", 20))

    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(HealthMonitor, "after_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(resumable("byol"), data, tmp_path / "run")
    assert find_checkpoint(tmp_path / "run" / "checkpoints") is None


def test_kill_minus_nine_loses_nothing(tmp_path: Path) -> None:
    """A real process, a real SIGKILL at an arbitrary moment."""
    data = str(write_images(tmp_path / "data", 20))
    config = apply_sets(open_recipe("simclr", "default"), SETS)
    command = [sys.executable, "-m", "twinlens.cli.main", "train", "simclr", data]
    command += [f"--set={pair}" for pair in SETS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL
    )
    wait_for_checkpoint(tmp_path / "killed", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(config, data, tmp_path / "straight")
    found = find_checkpoint(tmp_path / "killed" / "checkpoints")
    assert found is not None and found.name != f"step-{config.settings.steps:08d}"
    train(config, data, tmp_path / "killed")
    assert_same_bytes(tmp_path / "straight", tmp_path / "killed")


SETS = (
    "encoder=vit-nano/4",
    "image_size=16",
    "batch=8",
    "steps=120",
    "save_every=5",
    "threads=1",
    "hidden=16",
    "dim=8",
    "device=cpu",
)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while find_checkpoint(run / "checkpoints") is None:
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline, "no checkpoint within a minute"
        time.sleep(0.02)
