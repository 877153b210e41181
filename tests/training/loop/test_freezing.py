"""What is frozen stays as it is: weights, statistics, dropout, and no optimizer state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.family import small_config, small_network, with_settings, write_images
from tests.training.loop.test_resume import Died, DiesAt, assert_same_bytes, last_tensors
from twinlens.errors import InputError
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.runs.checkpoints import OPTIMIZER, WEIGHTS


class Listener(Silent):
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_images(tmp_path / "data", 20))


def started(run: Path) -> dict[str, Tensor]:
    """Return the weights after a first step that moved nothing."""
    return last_tensors(run, WEIGHTS)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Return the parts of which a tensor differs."""
    return {
        name.split("/")[1].split(".")[0]
        for name, tensor in after.items()
        if not torch.equal(tensor, before[name])
    }


@pytest.mark.parametrize("batchnorm", ["sync", "local", "split"])
def test_a_frozen_tower_keeps_its_weights_and_statistics(
    data: str, tmp_path: Path, batchnorm: str
) -> None:
    config = small_config("clip", encoder="resnet-tiny", freeze="image", batchnorm=batchnorm)
    train(with_settings(config, steps=1, lr=0.0), data, tmp_path / "first")
    train(with_settings(config, steps=3), data, tmp_path / "run")
    moved = changed(started(tmp_path / "first"), last_tensors(tmp_path / "run", WEIGHTS))
    assert moved == {"image_projection", "text", "text_projection", "scale"}
    held = last_tensors(tmp_path / "run", OPTIMIZER)
    assert held and not any(name.startswith("optimizer/image.") for name in held)


def test_without_freezing_the_statistics_of_batchnorm_move_even_at_no_rate(
    data: str, tmp_path: Path
) -> None:
    config = small_config("clip", encoder="resnet-tiny", lr=0.0)
    train(with_settings(config, steps=1), data, tmp_path / "first")
    train(with_settings(config, steps=3), data, tmp_path / "run")
    moved = changed(started(tmp_path / "first"), last_tensors(tmp_path / "run", WEIGHTS))
    assert moved == {"image"}


def test_a_frozen_tower_drops_nothing() -> None:
    config = small_config("simclr", drop_path=0.9)
    images = torch.randn(4, 3, 16, 16)
    free, frozen = (
        small_network(with_settings(config, freeze=names)).train() for names in ("", "image")
    )
    with torch.no_grad():
        assert not torch.equal(free["image"](images), free["image"](images))
        assert torch.equal(frozen["image"](images), frozen["image"](images))
    assert frozen.training and not frozen["image"].training
    assert frozen["projector"].training


def test_a_prefix_freezes_what_it_names_and_no_more() -> None:
    config = small_config("simclr", encoder="vit-nano/4", freeze="image.blocks.1,image.embed")
    net = small_network(config)
    still = {name for name, own in net.parts.named_parameters() if not own.requires_grad}
    assert still == {
        name
        for name, _ in net.parts.named_parameters()
        if name.startswith(("image.blocks.1.", "image.embed."))
    }
    trains, total = net.count_parameters()
    assert 0 < trains < total


@pytest.mark.parametrize("chunk", [0, 4])
def test_a_run_with_a_frozen_tower_resumes_bit_for_bit(
    data: str, tmp_path: Path, chunk: int
) -> None:
    config = small_config(
        "clip", encoder="resnet-tiny", freeze="image", steps=5, save_every=2, log_every=1,
        chunk=chunk, optimizer="adamw", lr=1e-3,
    )  # fmt: skip
    train(config, data, tmp_path / "whole")
    with pytest.raises(Died):
        train(config, data, tmp_path / "cut", DiesAt(3))
    train(config, data, tmp_path / "cut")
    assert_same_bytes(tmp_path / "whole", tmp_path / "cut")


def test_the_log_tells_how_many_parameters_train(data: str, tmp_path: Path) -> None:
    heard = Listener()
    config = small_config("clip", freeze="text", steps=1)
    train(config, data, tmp_path / "run", heard)
    line = next(line for line in heard.lines if "parameters train" in line)
    counts = [int(word.replace(",", "")) for word in line.split() if word[0].isdigit()]
    text = sum(
        tensor.numel()
        for name, tensor in last_tensors(tmp_path / "run", WEIGHTS).items()
        if name.startswith("weights/text.")
    )
    assert counts[1] - counts[0] == text
    quiet = Listener()
    train(with_settings(config, freeze=""), data, tmp_path / "free", quiet)
    assert not any("parameters train" in line for line in quiet.lines)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("imgae", "freeze names 'imgae'.*Parts: image, text"),
        ("image.blocks.77", "no parameter begins"),
        ("image,text,image_projection,text_projection,scale", "leaves no parameter to train"),
    ],
)
def test_what_cannot_be_frozen_is_refused_before_data_are_read(
    tmp_path: Path, names: str, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        train(small_config("clip", freeze=names), str(tmp_path / "no-data"), tmp_path / "run")
