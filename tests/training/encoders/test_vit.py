"""The vision transformer at sizes other than its own."""

from __future__ import annotations

import pytest
import torch

from tests.training.family import small_config, small_network
from twinlens.training.encoders.blocks import BranchOptions
from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.encoders.vit import DropPath, VisionTransformer, ViTShape
from twinlens.training.seeds import generator


def test_smaller_crops_span_the_same_positions() -> None:
    tower = VisionTransformer(ViTShape(64, 1, 2), 4, 32)
    with torch.no_grad():
        assert tower(torch.zeros(1, 3, 16, 16)).shape == (1, 64)
        assert tower.tokens(torch.zeros(1, 3, 32, 32)).shape == (1, 65, 64)
        maps = tower.look(torch.randn(2, 3, 32, 32, generator=generator(0)))
    assert maps.shape == (2, 2, 8, 8)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 2))


def test_a_dropped_branch_is_zero_for_some_images_and_as_large_on_average() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.3), torch.ones(4000, 2, 3)
    dropped = drop(x)
    assert set(dropped.flatten(1).unique(dim=1).flatten().tolist()) == {
        0.0,
        float(x[0, 0, 0] / 0.7),
    }
    assert abs(float(dropped.mean()) - 1) < 0.03
    assert torch.equal(drop.eval()(x), x)


def test_branches_drop_more_the_later_they_are_and_start_scaled() -> None:
    options = BranchOptions(drop_path=0.2, layer_scale=1e-5)
    tower = open_image_tower("vit-tiny/4", 16, branches=options)
    rates = [float(getattr(block.drop, "drop_prob", 0.0)) for block in tower.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.2 * number / 11 for number in range(12)])
    plain = open_image_tower("vit-tiny/4", 16)
    added = tower.state_dict().keys() - plain.state_dict().keys()
    assert len(added) == 24 and all(float(tower.state_dict()[name].mean()) < 2e-5 for name in added)
    even = open_image_tower("vit-nano/4", 16, branches=BranchOptions(0.3, drop_path_even=True))
    assert [block.drop.drop_prob for block in even.blocks] == [0.3, 0.3]  # type: ignore[union-attr]


@pytest.mark.parametrize("encoder", ["vit-nano/4", "timm:test_vit"])
def test_a_teacher_drops_no_branch(encoder: str) -> None:
    config = small_config("dino", encoder=encoder, image_size=32, drop_path=0.5)
    net = small_network(config).train()
    teacher = net.copy_frozen(("image",))
    images = torch.randn(4, 3, 32, 32, generator=generator(0))
    one, other = teacher["image"](images), teacher["image"](images)
    assert torch.equal(one, other) and not torch.equal(net["image"](images), net["image"](images))
