"""Parameter groups, learning rates and LARS."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from tests.training.family import small_config, small_network
from twinlens.training.config import TrainingSettings
from twinlens.training.loop.optimizers import (
    Lars,
    drop_frozen,
    open_optimizer,
    parameter_groups,
    schedule_rates,
)
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
