"""Recipes: named settings that are known to work, one file a method.

A recipe is a function whose docstring starts with what it is for and holds its command; it returns
the whole configuration. `default` is what `twinlens train METHOD` takes. A recipe in `OWN_LOOPS`
has settings and a loop of its own and is no such function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module

from twinlens.errors import NotFoundError
from twinlens.training.config import Config
from twinlens.training.objectives import METHODS, find_method

RecipeFunction = Callable[[], Config]
OWN_LOOPS = {"clip": ("builtin",)}  # `recipes.builtin`: the encoder that ships


def list_recipes(method: str) -> dict[str, RecipeFunction]:
    """Return the recipes of a method, by name, in the order of its file."""
    find_method(method)
    module = import_module(f"twinlens.training.recipes.{method}")
    own = inspect.getmembers(module, inspect.isfunction)
    found = {
        name: function
        for name, function in own
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    lines = {name: function.__code__.co_firstlineno for name, function in found.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: lines[name])}


def has_own_loop(method: str, name: str) -> bool:
    """Say whether a recipe has a loop of its own, which `open_recipe` does not know."""
    return name in OWN_LOOPS.get(method, ())


def list_names(method: str) -> list[str]:
    """Return the names of all recipes of a method."""
    return [*list_recipes(method), *OWN_LOOPS.get(method, ())]


def open_recipe(method: str, name: str) -> Config:
    """Return the configuration of a recipe."""
    recipes = list_recipes(method)
    if name not in recipes:
        raise NotFoundError(
            f"recipe {name!r} is unknown for {method}; it has {', '.join(list_names(method))}",
            field="--recipe",
        )
    return recipes[name]()


def describe_methods() -> list[str]:
    """Return one line a method: its name, what it does, its recipes."""
    width = max(map(len, METHODS))
    return [
        f"{name:<{width}}  {find_method(name).summary}  [{', '.join(list_names(name))}]"
        for name in METHODS
    ]
