"""Branches of open_clip's vision transformers are scaled and dropped as those of our own are."""

from __future__ import annotations

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from twinlens.errors import InputError
from twinlens.training.encoders.blocks import BranchOptions, ScaledBranch, branch_open_clip
from twinlens.training.encoders.foreign_vit import OpenClipViT
from twinlens.training.nn.network import Network


def tower(branches: BranchOptions) -> OpenClipViT:
    torch.manual_seed(0)
    model = VisionTransformer(
        16, 8, width=16, layers=3, heads=2, mlp_ratio=2.0, output_dim=8, ls_init_value=0.5
    )
    branch_open_clip("open_clip:small", model, branches)
    return OpenClipViT(model)


def test_branches_are_dropped_while_training_alone_and_never_by_a_teacher() -> None:
    images = torch.randn(64, 3, 16, 16)
    usual, dropped = tower(BranchOptions()), tower(BranchOptions(drop_path=0.6))
    with torch.no_grad():
        assert torch.equal(usual.eval()(images), dropped.eval()(images))
        assert not torch.allclose(usual.train()(images), dropped.train()(images))
        branches = [module for module in dropped.modules() if isinstance(module, ScaledBranch)]
        assert [branch.drop_prob for branch in branches] == [0.0, 0.0, 0.3, 0.3, 0.6, 0.6]
        rows = branches[-1](torch.ones(500, 2, 16))[:, 0, 0]  # times 0.5, over the share kept
        assert set(rows.tolist()) == {0.0, 1.25} and 0.5 < float((rows == 0).float().mean()) < 0.7
        teacher = Network({"image": dropped}).copy_frozen(("image",))["image"]
        assert torch.equal(teacher.train()(images), usual(images))


def test_a_scale_keeps_open_clips_name_and_its_own_value_unless_another_is_set() -> None:
    known = set(tower(BranchOptions()).state_dict())
    for branches, start in (
        (BranchOptions(drop_path=0.1), 0.5),
        (BranchOptions(layer_scale=0.01), 0.01),
    ):
        found = tower(branches).state_dict()
        assert set(found) == known
        assert float(found["model.transformer.resblocks.1.ls_2.gamma"][0]) == pytest.approx(start)


def test_a_model_without_such_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="no branches to drop or scale") as caught:
        branch_open_clip("open_clip:RN50", nn.Conv2d(3, 3, 1), BranchOptions(layer_scale=0.1))
    assert caught.value.field == "layer_scale"
