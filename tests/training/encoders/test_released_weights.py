"""Encoders that start from a file of weights: they hold those weights, or say why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.family import small_config, with_settings, write_images
from twinlens.errors import InputError, NotFoundError
from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.loop.loop import train
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.run import open_run
from twinlens.training.seeds import generator

timm = pytest.importorskip("timm")
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, str]:
    """Return a classifier and the name of the tower that starts from its weights."""
    torch.manual_seed(3)
    model = timm.create_model("resnet10t", num_classes=5)  # the classifier itself is left behind
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return model.eval(), f"timm:resnet10t/{tmp_path / 'weights.safetensors'}"


@pytest.fixture
def clip(tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """Return a small open_clip model and the name of the tower that starts from its weights."""
    path = tmp_path / "small-clip.json"
    path.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(path)
    torch.manual_seed(3)
    model = open_clip.create_model("small-clip")
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    yield model.eval(), f"open_clip:small-clip/{tmp_path / 'clip.safetensors'}"
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._MODEL_CONFIGS.pop("small-clip")


@torch.no_grad()
def test_a_run_starts_from_the_weights_of_a_file(saved: tuple[nn.Module, str]) -> None:
    model, name = saved
    config = with_settings(small_config("simclr"), encoder=name)
    images = torch.randn(2, 3, 32, 32, generator=generator(0))
    expected = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    torch.testing.assert_close(build_network(config)["image"].eval()(images), expected)
    # A checkpoint is about to replace them, so the file need not be there any more.
    resumed = build_network(config, released=False)["image"].eval()(images)
    assert not torch.allclose(resumed, expected)


def test_weights_that_do_not_fit_are_refused(saved: tuple[nn.Module, str]) -> None:
    with pytest.raises(InputError, match="does not fit"):
        open_image_tower(saved[1].replace("resnet10t", "resnet18", 1), 32)


def test_a_file_that_holds_no_weights_is_refused(saved: tuple[nn.Module, str]) -> None:
    Path(saved[1].partition("/")[2]).write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        open_image_tower(saved[1], 32)


@torch.no_grad()
def test_a_run_starts_from_a_local_checkpoint_of_open_clip(clip: tuple[Any, str]) -> None:
    model, name = clip
    images = torch.randn(2, 3, 32, 32, generator=generator(0))
    tower = open_image_tower(name, 32).eval()
    assert tower.width == 16
    torch.testing.assert_close(tower(images), model.encode_image(images))
    unloaded = open_image_tower(name, 32, tagged=False).eval()
    assert not torch.allclose(unloaded(images), model.encode_image(images))


@torch.no_grad()
def test_a_checkpoint_of_open_clip_is_taken_at_the_size_of_the_run(clip: tuple[Any, str]) -> None:
    model, name = clip
    tower = open_image_tower(name, 16).eval()  # positions are interpolated, the rest is as it was
    assert tower(torch.zeros(1, 3, 16, 16)).shape == (1, 16)
    kept = tower.state_dict()["model.conv1.weight"]
    torch.testing.assert_close(kept, model.visual.conv1.weight)


def test_a_run_that_began_with_a_checkpoint_goes_on_without_its_file(
    clip: tuple[Any, str], tmp_path: Path
) -> None:
    data = str(write_images(tmp_path / "data", 20))
    config = with_settings(small_config("simclr"), encoder=clip[1], steps=2, save_every=1)
    train(config, data, tmp_path / "run")
    Path(clip[1].partition("/")[2]).unlink()
    assert train(config, data, tmp_path / "run").step == 2
    assert open_run(tmp_path / "run").towers["image"](torch.zeros(1, 3, 16, 16)).shape == (1, 16)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("open_clip:ViT-B-3", NotFoundError, "did you mean 'ViT-B-32'"),
        ("open_clip:RN50/nowhere.pt", NotFoundError, "neither a file nor a tag .* yfcc15m"),
    ],
)
def test_what_open_clip_does_not_know_is_refused_with_what_it_knows(
    name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_image_tower(name, 32)


def test_a_checkpoint_of_another_architecture_is_refused(
    clip: tuple[Any, str], saved: tuple[nn.Module, str]
) -> None:
    with pytest.raises(InputError, match="does not fit open_clip:small-clip at image_size 32"):
        open_image_tower(f"open_clip:small-clip/{saved[1].partition('/')[2]}", 32)
