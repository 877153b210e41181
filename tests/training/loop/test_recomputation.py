"""Gradient checkpointing: the same values, gradients and statistics, and less that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.family import (
    small_config,
    with_settings,
    write_images,
)
from tests.training.loop.test_resume import last_tensors
from twinlens.errors import InputError
from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.loop.loop import train
from twinlens.training.nn.recomputation import recompute_blocks

ENCODERS = ["vit-nano/4", "resnet-tiny", "timm:test_vit", "timm:test_resnet", "open_clip:ViT-S-32"]


def slopes(tower: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a pass in training, and what the buffers are after it."""
    torch.manual_seed(4)
    rows = tower(images)
    torch.autograd.backward(rows.square().sum())
    found = {name: own.grad for name, own in tower.named_parameters() if own.grad is not None}
    return {"rows": rows.detach(), **found, **dict(tower.named_buffers())}


@pytest.mark.parametrize("encoder", ENCODERS[:4])
def test_values_gradients_and_statistics_are_those_of_the_usual_pass(encoder: str) -> None:
    images = torch.randn(4, 3, 32, 32)
    found = []
    for recomputes in (False, True):
        torch.manual_seed(1)
        tower = open_image_tower(encoder, 32)
        for module in tower.modules():
            if isinstance(module, nn.GELU | nn.ReLU):  # dropout must be drawn alike both times
                module.register_forward_hook(lambda _m, _x, out: nn.functional.dropout(out, 0.3))
        if recomputes:
            recompute_blocks("image", tower)
        found.append(slopes(tower.train(), images))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=0, atol=0, msg=name)


def test_a_block_keeps_its_input_alone() -> None:
    def kept(tower: nn.Module) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            rows = tower(torch.randn(8, 3, 32, 32))
        assert rows.requires_grad
        own = {p.untyped_storage().data_ptr() for p in tower.parameters()}
        return sum(size for place, size in sizes.items() if place not in own)

    tower = open_image_tower("vit-tiny/4", 32).train()
    usual = kept(tower)
    recompute_blocks("image", tower)
    assert kept(tower) < usual / 5


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        pytest.param("dino", {}, marks=pytest.mark.slow),
        pytest.param("ibot", {"drop_path": 0.3}, marks=pytest.mark.slow),
        pytest.param("clip", {"chunk": 4}, marks=pytest.mark.slow),
        ("simclr", {}),
    ],
)
def test_a_run_ends_with_the_bytes_of_one_that_keeps_everything(
    method: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    data = str(write_images(tmp_path / "data", 16))
    encoder = "resnet-tiny" if method == "simclr" else "vit-nano/4"
    config = small_config(method, steps=2, encoder=encoder, **settings)
    train(config, data, tmp_path / "usual")
    train(with_settings(config, gradient_checkpointing=True), data, tmp_path / "frugal")
    usual, frugal = (last_tensors(tmp_path / name) for name in ("usual", "frugal"))
    assert usual.keys() == frugal.keys()
    for name, value in usual.items():
        torch.testing.assert_close(value, frugal[name], rtol=0, atol=0, msg=name)


def test_it_is_refused_where_it_cannot_apply(tmp_path: Path) -> None:
    config = small_config("simclr", gradient_checkpointing=True)
    with pytest.raises(InputError, match="--set compile=false"):
        train(with_settings(config, compile=True), str(tmp_path / "none"), tmp_path / "run")
    with pytest.raises(InputError, match="--set parallel=ddp"):
        train(with_settings(config, parallel="fsdp"), str(tmp_path / "none"), tmp_path / "run")
    with pytest.raises(InputError, match="no blocks one after the other"):
        recompute_blocks("image", nn.Sequential(nn.Linear(2, 2)))
