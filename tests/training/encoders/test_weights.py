"""Encoders that start from a file of weights: they hold those weights, or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.family import small_config, with_settings
from twinlens.errors import InputError
from twinlens.training.assembly import build_network
from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.seeds import generator

timm = pytest.importorskip("timm")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, str]:
    """Return a classifier and the name of the tower that starts from its weights."""
    torch.manual_seed(3)
    model = timm.create_model("resnet10t", num_classes=5)  # the classifier itself is left behind
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return model.eval(), f"timm:resnet10t/{tmp_path / 'weights.safetensors'}"


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
