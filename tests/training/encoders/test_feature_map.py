"""What a tower knows of places, and that its whole answer is what it serves."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.encoders.feature_map import read_features


@pytest.mark.parametrize(
    ("name", "side"), [("resnet-tiny", 2), ("vit-nano/4", 8), ("timm:test_resnet", 1)]
)
def test_features_by_place_come_with_what_is_served(name: str, side: int) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    tower = open_image_tower(name, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features, served = read_features(tower, images)
        assert features.shape == (2, tower.width, side, side)
        assert torch.allclose(served, tower(images), atol=1e-5)


def test_a_place_of_a_vit_is_where_its_patch_lies() -> None:
    """Without attention a token knows its own patch and position alone."""
    torch.manual_seed(0)
    tower = open_image_tower("vit-nano/4", 16).eval()
    tower.blocks = torch.nn.ModuleList()
    images = torch.zeros(1, 3, 16, 16)
    changed = images.clone()
    changed[..., 4:8, 12:] = 1.0
    with torch.no_grad():
        moved = read_features(tower, changed)[0] - read_features(tower, images)[0]
    assert (moved.abs().sum(dim=1)[0] > 1e-4).nonzero().tolist() == [[1, 3]]
