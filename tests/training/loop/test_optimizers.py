"""Parameter groups, learning rates and LARS."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.family import small_config, small_network
from twinlens.errors import InputError
from twinlens.training.config import TrainingSettings
from twinlens.training.loop.optimizers import (
    Lars,
    drop_frozen,
    open_optimizer,
    parameter_groups,
    schedule_rates,
)
from twinlens.training.nn.network import Network
from twinlens.training.schedules import TrainingProgress


def test_vectors_do_not_decay_and_exceptions_are_kept() -> None:
    config = small_config("dino", weight_decay=0.1, lr=1.0)
    net = small_network(config)
    groups = config.objective.groups()
    exceptions = (dataclasses.replace(groups[0], frozen_epochs=1.0),)
    assert sum(len(group["params"]) for group in parameter_groups(net, exceptions)) == len(
        list(net.parameters())
    )
    optimizer = open_optimizer(net, exceptions, config.settings)
    schedule_rates(optimizer, config.settings, TrainingProgress(0, 10))
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for parameter in net.parameters():
        assert decays[id(parameter)] == (0.1 if parameter.squeeze().ndim > 1 else 0.0)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    drop_frozen(optimizer, TrainingProgress(3, 10, per_epoch=5))
    frozen = [name for name, p in net.parts.named_parameters() if p.grad is None]
    assert frozen == ["projector.prototypes"]
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    drop_frozen(optimizer, TrainingProgress(5, 10, per_epoch=5))
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_learning_rate_follows_the_batch() -> None:
    net = small_network(small_config("simclr"))
    for scaling, expected in (("linear", 0.2), ("sqrt", 0.1 * math.sqrt(2)), ("none", 0.1)):
        settings = TrainingSettings(batch=512, lr=0.1, lr_scaling=scaling)  # type: ignore[arg-type]
        optimizer = open_optimizer(net, (), settings)
        assert schedule_rates(optimizer, settings, TrainingProgress(0, 10)) == pytest.approx(
            expected
        )


def test_lars_steps_by_the_norm_of_the_weights() -> None:
    weight = nn.Parameter(torch.full((2, 2), 3.0))
    bias = nn.Parameter(torch.zeros(2))
    groups = [
        {"params": [weight], "adapts": True, "weight_decay": 0.0},
        {"params": [bias], "adapts": False, "weight_decay": 0.0},
    ]
    optimizer = Lars(groups, lr=1.0, momentum=0.0)
    weight.grad, bias.grad = torch.full((2, 2), 5.0), torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 3.0 - 0.001 * 3.0))
    torch.testing.assert_close(bias.detach(), torch.full((2,), -1.0))


def rates_of(name: str, encoder: str, **settings: Any) -> tuple[Network, dict[str, float]]:
    """Return a network and each parameter's learning rate at a plain rate of 1."""
    config = small_config(name, encoder=encoder, image_size=32, lr=1.0, **settings)
    net = small_network(config)
    optimizer = open_optimizer(net, config.objective.groups(), config.settings)
    schedule_rates(optimizer, config.settings, TrainingProgress(0, 10))
    names = {id(parameter): name for name, parameter in net.parts.named_parameters()}
    return net, {
        names[id(parameter)]: group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize(
    ("encoder", "patches", "blocks", "last"),
    [
        ("vit-nano/4", "image.embed.weight", "image.blocks.{}.feed.0.weight", "image.norm.weight"),
        (
            "timm:test_vit",
            "image.model.patch_embed.proj.weight",
            "image.model.blocks.{}.mlp.fc1.weight",
            "image.model.norm.weight",
        ),
    ],
)
def test_layers_move_less_the_earlier_they_are(
    encoder: str, patches: str, blocks: str, last: str
) -> None:
    net, rates = rates_of("simmim", encoder, layer_decay=0.5, patch_rate=0.2)
    depth = 1 + max(
        int(name.split("blocks.")[1].split(".")[0]) for name in rates if "blocks." in name
    )
    assert rates[patches] == pytest.approx(0.2 * 0.5 ** (depth + 1))
    for place in range(depth):
        assert rates[blocks.format(place)] == pytest.approx(0.5 ** (depth - place))
    assert rates["mask_token.value"] == pytest.approx(0.5 ** (depth + 1))
    assert rates[last] == rates["pixels.weight"] == 1.0
    assert set(rates) == {name for name, _ in net.parts.named_parameters()}


def test_a_patch_layer_of_rate_0_stands_still_and_the_rest_moves() -> None:
    net, rates = rates_of("mocov3", "vit-nano/4", patch_rate=0.0)
    frozen = {
        name for name, parameter in net.parts.named_parameters() if not parameter.requires_grad
    }
    assert frozen == {"image.embed.weight", "image.embed.bias"} and frozen.isdisjoint(rates)


@pytest.mark.parametrize(
    ("setting", "value", "encoder"),
    [
        ("patch_rate", 0.2, "resnet-tiny"),
        ("drop_path", 0.1, "resnet-tiny"),
        ("layer_scale", 0.1, "timm:test_resnet"),
        ("drop_path_even", True, "timm:test_vit"),
    ],
)
def test_what_an_encoder_has_no_place_for_is_refused(
    setting: str, value: float, encoder: str
) -> None:
    with pytest.raises(InputError, match=f"{setting}|layer_scale"):
        rates_of("simclr", encoder, **{setting: value})


def test_adam_and_layer_norms_take_the_eps_that_is_set() -> None:
    config = small_config("simmim", optimizer="adamw", adam_eps=1e-6, norm_eps=1e-6)
    net = small_network(config)
    optimizer = open_optimizer(net, config.objective.groups(), config.settings)
    assert {group["eps"] for group in optimizer.param_groups} == {1e-6}
    norms = [module for module in net["image"].modules() if isinstance(module, nn.LayerNorm)]
    assert norms and {norm.eps for norm in norms} == {1e-6}
