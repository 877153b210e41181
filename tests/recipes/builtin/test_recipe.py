"""The schedule of a run, and which settings may change between two starts of it."""

from __future__ import annotations

import dataclasses

import pytest

from recipes.builtin.pipeline import set_recipe
from recipes.builtin.recipe import Recipe
from twinlens.errors import InputError

RECIPE = Recipe(steps=1000, finish=100, cooldown=0.3, lr=1.0, warmup=10, rekindled=0.5)


def test_the_rate_rises_stays_falls_and_does_so_once_more_lower() -> None:
    rates = [RECIPE.rate(step) for step in range(RECIPE.total)]
    assert rates[0] == 0.1
    assert rates[9:700] == [1.0] * 691
    assert rates[850] == pytest.approx(0.5)
    assert rates[999] < 0.01
    assert max(rates[1000:]) == pytest.approx(0.5, abs=0.2)
    assert max(rates[1000:]) <= 0.5
    assert 0 < rates[-1] < 0.01


def test_a_run_goes_on_with_its_own_settings() -> None:
    RECIPE.check_resumable(dataclasses.asdict(RECIPE), 500)


@pytest.mark.parametrize(
    ("change", "step"),
    [({"lr": 0.5}, 1), ({"held_out": ()}, 1), ({"steps": 2000}, 701), ({"finish": 7}, 1001)],
)
def test_settings_that_made_the_run_may_not_change(change: dict[str, object], step: int) -> None:
    changed = dataclasses.replace(RECIPE, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=next(iter(change))):
        changed.check_resumable(dataclasses.asdict(RECIPE), step)


@pytest.mark.parametrize(
    ("change", "step"), [({"steps": 2000}, 600), ({"finish": 7}, 1000), ({"save_every": 1.0}, 1050)]
)
def test_lengths_may_change_while_no_step_depended_on_them(
    change: dict[str, object], step: int
) -> None:
    changed = dataclasses.replace(RECIPE, **change)  # type: ignore[arg-type]
    changed.check_resumable(dataclasses.asdict(RECIPE), step)


def test_a_shorter_run_must_not_have_been_due_to_slow_down() -> None:
    shorter = dataclasses.replace(RECIPE, steps=600)
    with pytest.raises(InputError, match="steps"):
        shorter.check_resumable(dataclasses.asdict(RECIPE), 500)


def test_keys_are_set_by_name_and_a_typo_is_guessed() -> None:
    recipe = set_recipe(["steps=5", "mix.icons=3", "held_out=noto,blobmoji"])
    assert (recipe.steps, recipe.mix.icons, recipe.held_out) == (5, 3, ("noto", "blobmoji"))
    assert set_recipe(["held_out="]).held_out == ()
    with pytest.raises(InputError, match="did you mean 'steps'"):
        set_recipe(["stepps=5"])
