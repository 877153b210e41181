"""Every recipe: its command, its line in the list, and rates that make sense."""

from __future__ import annotations

import pytest
import torch

from tests.training.family import ALL
from twinlens.errors import NotFoundError
from twinlens.training.loop.optimizers import (
    rate_scale,
)
from twinlens.training.objectives import METHODS, find_method
from twinlens.training.recipes import describe_methods, list_recipes, open_recipe


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


def test_the_build_it_recipe_holds_the_numbers_that_it_is_named_for() -> None:
    config = open_recipe("simclr", "cifar10_build_it")
    settings, objective = config.settings, config.objective
    assert (settings.encoder, settings.image_size) == ("resnet50", 32)
    assert (settings.batch, settings.epochs, settings.steps) == (256, 80, 0)
    assert (settings.optimizer, settings.lr, settings.weight_decay) == ("adamw", 3e-4, 1e-4)
    assert settings.lr * rate_scale(settings) == 3e-4  # whatever the batch
    heads = list(objective.heads({"image": 16})["projector"].modules())
    assert objective.temperature == 0.07
    assert [layer.p for layer in heads if isinstance(layer, torch.nn.Dropout)] == [0.1]
