"""Settings: keys set by name, errors that guess, and JSON that reads back."""

from __future__ import annotations

import json
import re

import pytest

from tests.training.family import ALL
from twinlens.errors import InputError
from twinlens.training.config import Config, TrainingSettings, apply_sets, build
from twinlens.training.objectives import find_method
from twinlens.training.recipes import list_recipes, open_recipe
from twinlens.training.schedules import Cosine


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
