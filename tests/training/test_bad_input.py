"""What a user can do wrong: each a clear error, and nothing lost."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from tests.training.family import small_config, with_settings, write_images
from twinlens.errors import ConflictError, InputError, NotFoundError, TwinlensError
from twinlens.training.loop.loop import NotFiniteError, train
from twinlens.training.objective import BatchRows, LossInputs
from twinlens.training.objectives.simclr import SimCLR
from twinlens.training.runs import checkpoints
from twinlens.training.runs.checkpoints import find_checkpoint
from twinlens.training.runs.logs import Log, read_log
from twinlens.training.runs.run import read_config


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data", 20)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        train(small_config("simclr"), str(tmp_path / "empty"), tmp_path / "run")


def test_a_single_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "one", 1)
    with pytest.raises(InputError, match="holds 1 usable image"):
        train(small_config("simclr"), str(folder), tmp_path / "run")


def test_captions_missing_for_a_two_tower_method(tmp_path: Path, data: Path) -> None:
    next(data.rglob("*.txt")).unlink()
    with pytest.raises(InputError, match=r"clip needs a caption for each image, but 1 of 20"):
        train(small_config("clip"), str(data), tmp_path / "run")


def test_labels_missing_for_supcon(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"supcon needs a label.*folders named by class"):
        train(small_config("supcon"), str(data / "red"), tmp_path / "run")


def test_a_batch_larger_than_the_data_names_one_that_fits(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="--set batch=16"):
        train(small_config("simclr", batch=32), str(data), tmp_path / "run")


def test_the_advice_of_a_refused_run_works_in_the_same_folder(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="--set batch=16"):
        train(small_config("clip", batch=32), str(data), tmp_path / "run")
    advised = small_config("clip", batch=16, steps=1, vocabulary=40)
    assert train(advised, str(data), tmp_path / "run").step == 1
    assert read_config(tmp_path / "run") == advised
    tokenizer = json.loads((tmp_path / "run/tokenizer.json").read_text())
    assert len(tokenizer["model"]["vocab"]) <= 40  # not the one of the refused run


def test_accumulating_a_coupled_loss(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="fewer negatives"):
        train(small_config("simclr", accumulate=2), str(data), tmp_path / "run")


def test_a_batch_that_does_not_divide(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="does not divide"):
        train(small_config("byol", accumulate=3), str(data), tmp_path / "run")


def test_splits_that_do_not_divide_the_batch(tmp_path: Path, data: Path) -> None:
    config = small_config("moco", encoder="resnet-tiny", batchnorm="split", splits=5)
    with pytest.raises(InputError, match=r"splits is 5.*--set splits"):
        train(config, str(data), tmp_path / "run")


def test_a_gpu_that_is_not_there(tmp_path: Path, data: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match=r"finds no GPU; set device=cpu"):
        train(small_config("simclr", device="cuda"), str(data), tmp_path / "run")


def test_an_encoder_that_is_not_known_guesses_the_typo(tmp_path: Path, data: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'resnet18'"):
        train(small_config("simclr", encoder="resnet81"), str(data), tmp_path / "run")


def test_another_run_in_the_folder_is_not_overwritten(tmp_path: Path, data: Path) -> None:
    config = small_config("simclr", steps=2)
    train(config, str(data), tmp_path / "run")
    with pytest.raises(ConflictError, match=r"other settings: lr \(0\.05 before, 0\.1 now\)"):
        train(with_settings(config, lr=0.1), str(data), tmp_path / "run")
    with pytest.raises(ConflictError, match=r"method \(simclr before, byol now\)"):
        train(small_config("byol", steps=2), str(data), tmp_path / "run")
    (data / "red/000.txt").write_text("another caption")
    with pytest.raises(ConflictError, match="fingerprint changed"):
        train(config, str(data), tmp_path / "run")


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ConflictError, match="is not a training run"):
        train(small_config("simclr"), str(data), data)


def test_a_finished_run_started_again_stays_as_it_is(tmp_path: Path, data: Path) -> None:
    config = small_config("simclr", steps=2)
    train(config, str(data), tmp_path / "run")
    before = find_checkpoint(tmp_path / "run/checkpoints")
    assert train(config, str(data), tmp_path / "run").step == 2
    assert find_checkpoint(tmp_path / "run/checkpoints") == before


@dataclasses.dataclass(frozen=True)
class Spoiled(SimCLR):
    """SimCLR with a further term that turns to NaN at a step."""

    at_step: int = 3

    def loss(self, inputs: LossInputs) -> BatchRows:
        terms = super().loss(inputs)
        if inputs.progress.step >= self.at_step:
            bad = terms["loss"] * float("nan")
            return {"loss": terms["loss"] + bad, "penalty": bad}
        return terms


def test_a_nan_stops_the_run_keeps_the_last_good_checkpoint_and_names_the_term(
    tmp_path: Path, data: Path
) -> None:
    config = small_config("simclr", steps=6, save_every=2)
    spoiled = dataclasses.replace(config, objective=Spoiled(hidden=16, dim=8))
    with pytest.raises(NotFiniteError, match=r"step 4: penalty is not finite.*step-00000002"):
        train(spoiled, str(data), tmp_path / "run")
    found = find_checkpoint(tmp_path / "run/checkpoints")
    assert found is not None and found.name == "step-00000002"
    tensors = checkpoints.load_checkpoint(found).tensors["weights"]
    assert all(torch.isfinite(value).all() for value in tensors.values())


FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


def test_a_run_that_broke_before_its_first_checkpoint_may_be_tried_at_another_rate(
    tmp_path: Path, data: Path
) -> None:
    config = small_config("simclr", steps=2, save_every=100, lr=1e30)
    with pytest.raises(NotFiniteError, match="no checkpoint was due"):
        train(config, str(data), tmp_path / "run")
    assert train(with_settings(config, lr=0.01), str(data), tmp_path / "run").step == 2
    assert [row["step"] for row in read_log(tmp_path / "run")] == [2]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError(FULL)]
)
def test_a_full_disk_while_saving_leaves_the_last_good_checkpoint(
    error: Exception, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("simclr", steps=6, save_every=2)
    real, calls = save_file, []

    def fill_up(tensors: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) > 4:  # the second checkpoint, in its second file
            path.write_bytes(b"half")
            raise error
        real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", fill_up)
    with pytest.raises(TwinlensError, match=r"No space left.*last good one is .*step-00000002"):
        train(config, str(data), tmp_path / "run")
    kept = [path.name for path in (tmp_path / "run/checkpoints").iterdir()]
    assert kept == ["step-00000002"]
    monkeypatch.undo()
    assert train(config, str(data), tmp_path / "run").step == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_that_cannot_be_written_says_which_checkpoints_remain(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = Log(tmp_path, from_step=0)
    with pytest.raises(TwinlensError, match=r"cannot write .*No space left.*Free some space"):
        log.add(1, {"loss": 1.0})
    log.close()


def test_bad_images_are_listed_beside_the_run(tmp_path: Path, data: Path) -> None:
    (data / "red/000.png").write_bytes(b"no image")
    train(small_config("simclr", steps=2), str(data), tmp_path / "run")
    (row,) = (tmp_path / "run/bad_images.jsonl").read_text().splitlines()
    assert json.loads(row)["file"] == "red/000.png"


def test_the_resolved_settings_lie_beside_the_run(tmp_path: Path, data: Path) -> None:
    config = small_config("dino", steps=2)
    train(config, str(data), tmp_path / "run")
    assert read_config(tmp_path / "run") == config
    card = json.loads((tmp_path / "run/data.json").read_text())
    assert card["count"] == 20 and card["classes"] == ["blue", "green", "red"]
