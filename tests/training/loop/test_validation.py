"""Validation while training: what is asked, the best checkpoint, the early stop, the resume."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.family import small_config, with_settings, write_images
from tests.training.loop.test_resume import assert_same_bytes
from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.training.config import Config
from twinlens.training.evaluation.held_out import HeldOutData
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.export import SourceOptions, load_source
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.report.page import write_report
from twinlens.training.runs.checkpoints import (
    BEST,
    LAST,
    find_checkpoint,
    list_checkpoints,
    load_facts,
)
from twinlens.training.runs.logs import read_log
from twinlens.training.runs.run import open_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return training data and held-out data."""
    folder = tmp_path_factory.mktemp("data")
    held_out = write_images(folder / "held-out", 15, side=20)
    return str(write_images(folder / "train", 24)), str(held_out)


class Recorder(Silent):
    """Keeps what it is told, and may act when a validation has come so far."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def held_out_rows(run: Path) -> dict[int, dict[str, float]]:
    """Return what validations logged, by step, without how long they took."""
    return {
        row["step"]: {name: value for name, value in row.items() if name.startswith("eval/")}
        | {"eval/seconds": 0.0}
        for row in read_log(run)
        if "eval/seconds" in row
    }


def validated(method: str, data: tuple[str, str], **settings: Any) -> Config:
    return small_config(method, **{"eval": data[1], "steps": 5, "eval_every": 2} | settings)


def test_a_run_is_validated_at_its_start_every_so_often_and_at_its_end(
    data: tuple[str, str], tmp_path: Path
) -> None:
    display = Recorder()
    finished = train(validated("clip", data), data[0], tmp_path / "run", display)
    rows = held_out_rows(tmp_path / "run")
    assert list(rows) == [0, 2, 4, 5]
    recalls = {f"eval/{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    others = {"eval/knn", "eval/linear", "eval/zero_shot", "eval/mean_recall", "eval/seconds"}
    assert all(row.keys() == recalls | others for row in rows.values())
    assert "24 training images are the bank of kNN" in display.said[0]
    assert "validated after step 5" in display.said[-1] and "mean_recall" in display.said[-1]
    assert finished.best.startswith("best mean_recall") and finished.validation > 0


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "method", [pytest.param("simclr", marks=SLOW), "dino", pytest.param("clip", marks=SLOW)]
)
def test_a_validation_finds_what_an_evaluation_of_its_checkpoint_finds(
    method: str, data: tuple[str, str], tmp_path: Path
) -> None:
    """Of the teacher, where that is served."""
    train(validated(method, data, lr=0.3), data[0], tmp_path / "run")
    found = evaluate_encoder(
        str(tmp_path / "run"), data[1], bank=data[0], limit=0, display=Silent()
    )
    logged = held_out_rows(tmp_path / "run")[5]
    for name in ("knn", "linear", *(["zero_shot", "text_to_image_r5"] * (method == "clip"))):
        assert logged[f"eval/{name}"] == pytest.approx(found[name], abs=1e-6)


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let validations find these values of kNN, one after the other."""
    left = iter(values)
    monkeypatch.setattr(HeldOutData, "measure", lambda *_, **__: {"knn": next(left)})


def test_the_best_checkpoint_stands_beside_the_last_and_is_served_when_asked(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [10.0, 50.0, 50.0, 40.0])  # of equal ones the first
    run = tmp_path / "run"
    train(validated("simclr", data, lr=0.3), data[0], run)
    best, last = (find_checkpoint(run / "checkpoints", kind) for kind in (BEST, LAST))
    assert best is not None and best.name == "best-00000002"
    assert last is not None and last.name == "step-00000005"
    assert load_facts(best)["validation"] == {"step": 2, "best": 50.0, "best_step": 2, "worse": 0}
    assert list_checkpoints(run / "checkpoints", BEST) == [best]
    options = [SourceOptions(), SourceOptions(best=True)]
    chosen = [load_source(str(run), option).provenance for option in options]
    assert [(it["steps"], it["chosen"]) for it in chosen] == [(5, last.name), (2, best.name)]
    weights = [open_run(run, best=one).image_encoder.state_dict() for one in (False, True)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    page = write_report(run).read_text(encoding="utf-8")
    assert "best-00000002" in page and "--best" in page


def test_a_run_without_a_validation_has_no_best(data: tuple[str, str], tmp_path: Path) -> None:
    train(small_config("simclr", steps=2), data[0], tmp_path / "run")
    with pytest.raises(NotFoundError, match="--eval DATA"):
        open_run(tmp_path / "run", best=True)


def test_patience_ends_a_run_that_gets_no_better_and_it_stays_ended(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [10.0, 50.0, 40.0, 45.0])
    config, run, display = (
        validated("simclr", data, steps=20, patience=2),
        tmp_path / "run",
        Silent(),
    )
    finished = train(config, data[0], run, display)
    assert finished.step == 6 and finished.best == "best knn 50 after step 2"
    said = Recorder()
    assert train(config, data[0], run, said).step == 6
    assert said.said[-1].startswith("stopped early after step 6 of 20: 2 validations in a row")


class Died(BaseException):
    """Stands for the end of the process."""


class DiesInside(Recorder):
    """A display that ends the run while a validation embeds, or after a step."""

    def __init__(self, what: str, done: int) -> None:
        super().__init__()
        self.what, self.done = what, done

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        if what == self.what and done == self.done:
            raise Died


@pytest.mark.parametrize(
    ("what", "done"),
    [("validating after step 4", 15), pytest.param("byol", 3, marks=SLOW)],
)
def test_a_run_that_died_validates_and_ends_as_one_that_never_did(
    what: str, done: int, data: tuple[str, str], tmp_path: Path
) -> None:
    config = validated("byol", data, steps=7, save_every=3, log_every=1, lr=0.3, patience=9)
    train(config, data[0], tmp_path / "straight")
    with pytest.raises(Died):
        train(config, data[0], tmp_path / "killed", DiesInside(what, done))
    train(config, data[0], tmp_path / "killed")
    assert_same_bytes(tmp_path / "straight", tmp_path / "killed")
    one, other = (held_out_rows(tmp_path / name) for name in ("straight", "killed"))
    assert one == other and list(one) == [0, 2, 4, 6, 7]
    facts = []
    for name in ("straight", "killed"):
        for kind in (LAST, BEST):
            found = find_checkpoint(tmp_path / name / "checkpoints", kind)
            assert found is not None
            facts.append((found.name, load_facts(found)))
    assert facts[:2] == facts[2:]


@pytest.fixture
def _usual_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("_usual_ctrl_c")
@pytest.mark.parametrize("step", [0, 2])
def test_ctrl_c_inside_a_validation_saves_the_step_and_forgets_the_validation(
    step: int, data: tuple[str, str], tmp_path: Path
) -> None:
    config = validated("simclr", data, steps=4, lr=0.3, save_every=100)
    train(config, data[0], tmp_path / "straight")

    class Interrupts(Recorder):
        def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
            if what == f"validating after step {step}" and total == 15:  # the bank comes after
                os.kill(os.getpid(), signal.SIGINT)
            assert not (what == f"validating after step {step}" and total == 24), "it went on"

    display = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        train(config, data[0], tmp_path / "stopped", display)
    assert display.said[-1] == f"stopped after step {step}; the same command continues from there"
    assert list(held_out_rows(tmp_path / "stopped")) == [0][:step]
    train(config, data[0], tmp_path / "stopped")
    assert_same_bytes(tmp_path / "straight", tmp_path / "stopped")
    assert held_out_rows(tmp_path / "straight") == held_out_rows(tmp_path / "stopped")


@pytest.mark.slow
def test_validation_moves_no_weight_and_draws_no_number(
    data: tuple[str, str], tmp_path: Path
) -> None:
    config = validated("clip", data, encoder="resnet-tiny", eval_every=1)
    train(config, data[0], tmp_path / "watched")
    train(small_config("clip", encoder="resnet-tiny", steps=5), data[0], tmp_path / "alone")
    assert_same_bytes(tmp_path / "watched", tmp_path / "alone")


@pytest.mark.slow
def test_a_locked_tower_is_asked_once(data: tuple[str, str], tmp_path: Path) -> None:
    class Counts(Silent):
        asked = 0

        def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
            self.asked += what.startswith("validating")

    display = Counts()
    train(with_settings(validated("clip-locked", data)), data[0], tmp_path / "run", display)
    projected = "image_projection" in open_run(tmp_path / "run").config.objective.paths["image"]
    assert projected and display.asked == 8  # a projection that trains: every time
    config = with_settings(validated("clip", data), freeze="image,image_projection")
    display.asked = 0
    train(config, data[0], tmp_path / "frozen", display)
    assert display.asked == 2  # the held-out images and the bank, once each


def test_other_held_out_data_are_refused_on_resume(data: tuple[str, str], tmp_path: Path) -> None:
    held_out = write_images(tmp_path / "held-out", 9)
    config = validated("simclr", (data[0], str(held_out)))
    train(config, data[0], tmp_path / "run")
    next(held_out.rglob("*.png")).unlink()
    with pytest.raises(ConflictError, match="held-out data"):
        train(config, data[0], tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"eval": "", "patience": 3}, "no held-out data are given"),
        ({"best_by": "zero_shot"}, "allow knn, linear"),
        ({"parallel": "fsdp"}, "--set parallel=ddp"),
    ],
)
def test_settings_that_cannot_apply_are_refused(
    settings: dict[str, Any], told: str, data: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        train(validated("simclr", data, **{"eval_every": 0} | settings), data[0], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_held_out_data_without_labels_or_captions_are_refused_before_a_folder_is_written(
    data: tuple[str, str], tmp_path: Path
) -> None:
    plain = write_images(tmp_path / "plain", 6, captions=False) / "red"
    for method in ("simclr", "clip"):
        with pytest.raises(InputError, match="have none"):
            train(validated(method, (data[0], str(plain))), data[0], tmp_path / method)
        assert not (tmp_path / method).exists()
    with pytest.raises(InputError, match="not held out"):
        train(validated("simclr", (data[0], data[0])), data[0], tmp_path / "run")
    assert not (tmp_path / "run").exists()
