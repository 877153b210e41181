"""Encoders by name have the width that they say."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.encoders.catalogue import open_image_tower


@pytest.mark.parametrize(
    ("name", "width"),
    [("resnet-tiny", 192), ("resnet18", 512), ("resnet50", 2048), ("vit-nano/8", 64)],
)
def test_a_tower_has_the_width_that_it_says(name: str, width: int) -> None:
    tower = open_image_tower(name, 32)
    assert tower.width == width
    with torch.no_grad():
        assert tower.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, width)


def test_timm_models_are_towers_too() -> None:
    pytest.importorskip("timm")
    tower = open_image_tower("timm:resnet10t", 32)
    with torch.no_grad():
        assert tower.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, tower.width)
