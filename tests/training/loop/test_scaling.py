"""fp16 with a scaled loss: overflow skips a step, and a checkpoint knows the scale."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.training.family import small_config, with_settings, write_images
from tests.training.loop.test_resume import Died, DiesAt, assert_same_bytes, last_tensors
from twinlens.errors import InputError
from twinlens.training.loop.loop import NotFiniteError, train
from twinlens.training.runs.checkpoints import find_checkpoint, load_facts
from twinlens.training.runs.logs import read_log


def facts(run: Path) -> dict[str, float]:
    found = find_checkpoint(run / "checkpoints")
    assert found is not None
    state: dict[str, float] = load_facts(found)["loss_scale"]
    return state


@pytest.mark.slow
def test_losses_in_fp16_are_near_those_in_fp32_and_a_killed_run_ends_the_same(
    tmp_path: Path,
) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = small_config("simclr", steps=5, save_every=2, log_every=1, clip=1.0, lr=1e-3)
    train(config, data, tmp_path / "wide")
    narrow = with_settings(config, precision="fp16")
    train(narrow, data, tmp_path / "narrow")
    wide, found = (
        [row["loss"] for row in read_log(tmp_path / name)] for name in ("wide", "narrow")
    )
    assert found == pytest.approx(wide, rel=0.05) and found != wide
    with pytest.raises(Died):
        train(narrow, data, tmp_path / "killed", DiesAt(3))
    train(narrow, data, tmp_path / "killed")
    assert_same_bytes(tmp_path / "narrow", tmp_path / "killed")
    assert facts(tmp_path / "narrow") == facts(tmp_path / "killed")


def test_an_overflow_skips_the_step_and_halves_the_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale is far too large at first: steps are skipped until it fits; then one is taken."""
    start, grad_scaler = 2.0**40, torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp,
        "GradScaler",
        lambda device, enabled: grad_scaler(device, init_scale=start, enabled=enabled),
    )
    data = str(write_images(tmp_path / "data", 20))
    config = small_config("moco", steps=1, log_every=1, precision="fp16")
    train(config, data, tmp_path / "one")
    train(with_settings(config, steps=1, lr=0.0), data, tmp_path / "still")
    (row,) = read_log(tmp_path / "one")
    assert (row["skipped_steps"], row["loss_scale"]) == (1.0, start / 2)
    assert facts(tmp_path / "one")["scale"] == start / 2
    one, still = last_tensors(tmp_path / "one"), last_tensors(tmp_path / "still")
    assert all(torch.equal(one[name], still[name]) for name in still if "running" not in name)
    assert int(one["state/queue_cursor"]) == 0  # keys of a batch that overflowed are not kept
    train(with_settings(config, steps=40), data, tmp_path / "many")
    rows = read_log(tmp_path / "many")
    skipped = [row["skipped_steps"] for row in rows]
    assert 5 < sum(skipped) < 40 and skipped[-1] == 0
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert int(last_tensors(tmp_path / "many")["state/queue_cursor"]) > 0


@pytest.mark.slow
def test_without_fp16_nothing_is_scaled(tmp_path: Path) -> None:
    train(
        small_config("simclr", steps=1, log_every=1),
        str(write_images(tmp_path / "data", 8)),
        tmp_path / "run",
    )
    (row,) = read_log(tmp_path / "run")
    assert "loss_scale" not in row
    found = find_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None and "loss_scale" not in load_facts(found)


def test_a_loss_that_is_no_number_still_stops_the_run(tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 8))
    config = small_config("simclr", steps=9, precision="fp16", lr=1e30)
    with pytest.raises(NotFiniteError):
        train(config, data, tmp_path / "run")


def test_shards_are_refused(tmp_path: Path) -> None:
    config = small_config("simclr", precision="fp16", parallel="fsdp")
    with pytest.raises(InputError, match="--set precision=bf16"):
        train(config, str(tmp_path / "none"), tmp_path / "run")
