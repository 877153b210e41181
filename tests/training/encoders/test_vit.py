"""The vision transformer at sizes other than its own."""

from __future__ import annotations

import torch

from twinlens.training.encoders.vit import VisionTransformer, ViTShape
from twinlens.training.seeds import generator


def test_smaller_crops_span_the_same_positions() -> None:
    tower = VisionTransformer(ViTShape(64, 1, 2), 4, 32)
    with torch.no_grad():
        assert tower(torch.zeros(1, 3, 16, 16)).shape == (1, 64)
        assert tower.tokens(torch.zeros(1, 3, 32, 32)).shape == (1, 65, 64)
        maps = tower.look(torch.randn(2, 3, 32, 32, generator=generator(0)))
    assert maps.shape == (2, 2, 8, 8)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 2))
