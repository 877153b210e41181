"""The parts of the frame alone: settings, schedules, state, BatchNorm, optimizers, monitors."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
import torch
from torch import nn

from tests.training.family import ALL, small_batch, small_config, small_network
from twinlens.errors import InputError, NotFoundError
from twinlens.training.config import Config, TrainingSettings, apply_sets, build
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.encoders.text import TextTransformer
from twinlens.training.encoders.vit import VisionTransformer, ViTShape
from twinlens.training.loop.monitors import Monitors
from twinlens.training.loop.optimizers import (
    Lars,
    drop_frozen,
    open_optimizer,
    parameter_groups,
    rate_scale,
    schedule_rates,
)
from twinlens.training.nn.batchnorm import SplitNorm, convert_batchnorm
from twinlens.training.objective import Clamp, Ema, Queue
from twinlens.training.objectives import METHODS, find_method
from twinlens.training.recipes import describe_methods, list_recipes, open_recipe
from twinlens.training.runs.state import State
from twinlens.training.schedules import Cosine, Linear, TrainingProgress, warmed_cosine
from twinlens.training.seeds import generator

# Settings


def test_set_reaches_the_method_its_nested_parts_and_the_run() -> None:
    config = open_recipe("byol", "default")
    pairs = ["dim=64", "crops.scale_min=0.3", "crops.blur=0.5,0.1", "follow.start=0.9", "batch=32"]
    changed = apply_sets(config, [*pairs, "compile=true", "optimizer=lars"])
    objective = changed.objective
    assert (objective.dim, objective.crops.scale_min, objective.crops.blur) == (64, 0.3, (0.5, 0.1))
    assert objective.follow == Cosine(0.9, 1.0)
    assert (changed.settings.batch, changed.settings.compile) == (32, True)
    assert changed.settings.optimizer == "lars"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("temprature=0.1", "did you mean 'temperature'"),
        ("crops.scale_mni=1", "did you mean 'crops.scale_min'"),
        ("batch=many", "batch=many: expected int"),
        ("optimizer=adam", "expected one of sgd, adamw, lars"),
        ("compile=perhaps", "expected true or false"),
        ("lr", "write key=value"),
        ("qqqq=1", "unknown key; simclr knows hidden, dim"),
    ],
)
def test_a_wrong_set_names_the_nearest_key(pair: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        apply_sets(open_recipe("simclr", "default"), [pair])


@pytest.mark.parametrize("method", ALL)
def test_settings_survive_json(method: str) -> None:
    for name in list_recipes(method):
        config = open_recipe(method, name)
        raw = json.loads(config.to_json())
        again = Config(
            raw["method"],
            build(find_method(raw["method"]), raw["objective"]),
            build(TrainingSettings, raw["settings"]),
        )
        assert again == config


@pytest.mark.parametrize("method", ALL)
def test_every_recipe_names_its_command(method: str) -> None:
    recipes = list_recipes(method)
    assert next(iter(recipes)) == "default"
    for name, recipe in recipes.items():
        option = "" if name == "default" else f"--recipe {name} "
        assert f"twinlens train {method} " in (recipe.__doc__ or "")
        assert f"{option}--out RUN" in (recipe.__doc__ or "")


def test_the_list_has_a_line_a_method() -> None:
    assert [line.split()[0] for line in describe_methods()] == list(METHODS)
    with pytest.raises(NotFoundError, match="did you mean 'simclr'"):
        find_method("simcrl")
    with pytest.raises(NotFoundError, match="it has default, cifar10"):
        open_recipe("simclr", "cifar11")


# Schedules


def test_schedules_are_functions_of_the_optimizer_step() -> None:
    assert Cosine(0.9, 1.0).at(TrainingProgress(0, 10)) == pytest.approx(0.9)
    assert Cosine(0.9, 1.0).at(TrainingProgress(5, 10)) == pytest.approx(0.95)
    assert Cosine(0.9, 1.0).at(TrainingProgress(10, 10)) == pytest.approx(1.0)
    assert Linear(0.04, 0.07, 0.3).at(TrainingProgress(15, 100)) == pytest.approx(0.055)
    assert Linear(0.04, 0.07, 0.3).at(TrainingProgress(90, 100)) == pytest.approx(0.07)
    assert warmed_cosine(TrainingProgress(0, 100), 10) == pytest.approx(0.1)
    assert warmed_cosine(TrainingProgress(9, 100), 10) == pytest.approx(1.0)
    assert warmed_cosine(TrainingProgress(55, 100), 10) == pytest.approx(0.5)
    assert warmed_cosine(TrainingProgress(100, 100), 10, floor=0.1) == pytest.approx(0.1)


# State


def test_an_ema_teacher_is_a_copy_that_follows() -> None:
    config = small_config("byol")
    net = small_network(config)
    state = State((Ema(("image", "projector"), Cosine(0.9, 0.9)),), net, 0)
    assert state.ema_teacher is not None and "predictor" not in state.ema_teacher
    pairs = list(
        zip(state.ema_teacher["image"].parameters(), net["image"].parameters(), strict=True)
    )
    assert all(slow.data_ptr() != fast.data_ptr() for slow, fast in pairs)
    assert not any(slow.requires_grad for slow, _ in pairs)
    before = [slow.clone() for slow, _ in pairs]
    with torch.no_grad():
        for _, fast in pairs:
            fast.add_(1.0)
    state.renew(net, [], TrainingProgress(0, 10), Ranks())
    for (slow, fast), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(slow, 0.9 * old + 0.1 * fast)


def test_a_queue_starts_with_unit_rows_wraps_and_keeps_the_newest() -> None:
    net = small_network(small_config("simclr"))
    state = State((Queue("queue", 5, 2, "k"),), net, 0)
    torch.testing.assert_close(state.tensors()["queue"].norm(dim=1), torch.ones(5))
    for number in range(3):
        rows = torch.full((2, 2), float(number))
        state.renew(net, [{"k": rows}], TrainingProgress(number, 9), Ranks())
    assert state.tensors()["queue"][:, 0].tolist() == [2.0, 0.0, 1.0, 1.0, 2.0]
    many = torch.arange(16.0).view(8, 2)
    state.renew(net, [{"k": many}], TrainingProgress(4, 9), Ranks())
    assert sorted(state.tensors()["queue"][:, 0].tolist()) == [6.0, 8.0, 10.0, 12.0, 14.0]


def test_all_micro_batches_enter_the_queue_after_the_step() -> None:
    net = small_network(small_config("simclr"))
    state = State((Queue("queue", 4, 1, "k"),), net, 0)
    rows_by_part = [{"k": torch.tensor([[float(part)]])} for part in range(3)]
    state.renew(net, rows_by_part, TrainingProgress(0, 1), Ranks())
    assert state.tensors()["queue"][:3, 0].tolist() == [0.0, 1.0, 2.0]


def test_a_clamp_bounds_the_parameter_itself() -> None:
    net = small_network(small_config("clip"))
    state = State((Clamp("scale.value", 0.0, 1.0),), net, 0)
    state.renew(net, [], TrainingProgress(0, 1), Ranks())
    assert float(net.parts.get_parameter("scale.value").detach()) == 1.0


def test_the_centre_moves_after_the_loss_and_by_raw_logits() -> None:
    config = small_config("dino")
    net = small_network(config)
    state = State(config.objective.state(), net, 0)
    assert float(state.tensors()["centre"].abs().sum()) == 0
    logits = torch.randn(4, 2, 12, generator=generator(0))
    state.renew(net, [{"logits": logits}], TrainingProgress(0, 1), Ranks())
    torch.testing.assert_close(state.tensors()["centre"], 0.1 * logits.mean(dim=(0, 1)))


# BatchNorm


def test_split_norm_is_batchnorm_within_each_split() -> None:
    plain = nn.BatchNorm2d(3)
    split = convert_batchnorm(nn.Sequential(nn.BatchNorm2d(3)), "split", splits=4, world=1)
    rows = torch.randn(8, 3, 5, 5, generator=generator(0))
    out = split(rows)
    for part in range(4):
        torch.testing.assert_close(out[part::4], plain(rows[part::4]), rtol=1e-4, atol=1e-5)
    layer = split[0]  # type: ignore[index]
    assert isinstance(layer, SplitNorm)
    means = torch.stack([rows[part::4].mean(dim=(0, 2, 3)) for part in range(4)])
    torch.testing.assert_close(layer.running_mean, 0.1 * means.mean(dim=0))


def test_in_evaluation_all_batchnorms_are_one() -> None:
    layer = nn.BatchNorm1d(3)
    rows = torch.randn(8, 3, generator=generator(0))
    layer(rows)
    expected = layer.eval()(rows)
    split = convert_batchnorm(nn.Sequential(layer), "split", splits=4, world=1)
    torch.testing.assert_close(split.eval()(rows), expected)


# Optimizers


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


def test_a_lars_recipe_moves_weights_by_a_small_share_of_their_norm() -> None:
    """lr without its trust coefficient says nothing: one without the other is off by decades."""
    found = 0
    for method in ALL:
        for name in list_recipes(method):
            settings = open_recipe(method, name).settings
            if settings.optimizer == "lars":
                found += 1
                assert 5e-4 <= settings.lr * rate_scale(settings) * settings.trust <= 2e-2, method
    assert found >= 5


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


# Encoders


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


def test_smaller_crops_span_the_same_positions() -> None:
    tower = VisionTransformer(ViTShape(64, 1, 2), 4, 32)
    with torch.no_grad():
        assert tower(torch.zeros(1, 3, 16, 16)).shape == (1, 64)
        assert tower.tokens(torch.zeros(1, 3, 32, 32)).shape == (1, 65, 64)
        maps = tower.look(torch.randn(2, 3, 32, 32, generator=generator(0)))
    assert maps.shape == (2, 2, 8, 8)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 2))


def test_padding_after_a_text_changes_nothing() -> None:
    torch.manual_seed(0)
    tower = TextTransformer(30, 12, 16, 2, 2, pad_id=0).eval()
    short = torch.tensor([[2, 5, 9]])
    padded = torch.tensor([[2, 5, 9, 0, 0, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(tower(short), tower(padded), atol=1e-6, rtol=0)


# Monitors


def test_monitors_do_not_change_the_encoder() -> None:
    config = small_config("simclr", encoder="resnet-tiny")
    net = small_network(config)
    rows, _ = net(small_batch(config, 8, torch.float32))
    assert not rows["representation"].requires_grad


def test_monitors_stay_within_their_share_of_the_time() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0  # every look at the clock takes a second
        return now[0]

    monitors = Monitors(0, 0.02, clock)
    rows = torch.randn(16, 2, 8, generator=generator(0))
    labels = torch.full((16,), -1)
    observed = [bool(monitors.observe(rows, labels)) for _ in range(400)]
    assert observed[0] and monitors.spent <= 0.02 * now[0] + 1
    assert 2 <= sum(observed) <= 12


def test_the_online_probe_learns_separable_classes() -> None:
    draws = generator(0)
    centres = torch.randn(3, 8, generator=draws) * 3
    monitors = Monitors(3, 1e9)
    numbers: dict[str, float] = {}
    for _ in range(60):
        labels = torch.randint(0, 3, (64,), generator=draws)
        rows = centres[labels] + torch.randn(64, 8, generator=draws)
        numbers = monitors.observe(rows[:, None], labels)
    assert numbers["probe"] > 0.9 and numbers["knn"] > 0.9
    assert 1 < numbers["rank"] < 8


def test_monitors_resume_where_they_stopped() -> None:
    draws = generator(0)
    centres = torch.randn(3, 8, generator=draws) * 3
    labels = torch.randint(3, (200, 400), generator=draws)
    batches = [centres[own][:, None] + torch.randn(400, 1, 8, generator=draws) for own in labels]
    straight, first = Monitors(3, 1e9), Monitors(3, 1e9)
    for rows, own in zip(batches[:4], labels, strict=False):
        straight.observe(rows, own)
        first.observe(rows, own)
    later = Monitors(3, 1e9)
    later.restore(first.state(), torch.device("cpu"))
    assert later.observe(batches[4], labels[4]) == straight.observe(batches[4], labels[4])
    fresh = Monitors(3, 1e9).observe(batches[4], labels[4])
    assert "knn" not in fresh and fresh["probe"] < 0.7
    assert Monitors(3, 1e9).state() == {}
