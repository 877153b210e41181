"""Recipes: named settings that are known to work, one file per method.

A recipe is a function that returns the whole configuration; its docstring starts with its purpose
and contains its command. `twinlens train METHOD` uses `default`. What must stay true: a recipe only
sets values.
Imported by: studies and `cli`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from twinlens.errors import InputError, NotFoundError
from twinlens.training.config import Config
from twinlens.training.objectives import METHODS, find_method

RecipeFunction = Callable[[], Config]


def list_recipes(method: str) -> dict[str, RecipeFunction]:
    """Return the recipes of a method by name, in the order of its file."""
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


def open_recipe(method: str, name: str) -> Config:
    """Return the configuration of a recipe."""
    recipes = list_recipes(method)
    if name == "builtin":
        raise InputError(
            "recipe builtin trains the encoder that ships and is not in the package: in a checkout"
            " of the repository run make builtin, or python -m recipes.builtin RUN",
            field="--recipe",
        )
    if name not in recipes:
        raise NotFoundError(
            f"recipe {name!r} is unknown for {method}; it has {', '.join(recipes)}",
            field="--recipe",
        )
    return recipes[name]()


def describe_methods() -> list[str]:
    """Return one line per method: its name, what it does, its recipes.

    Read from the source text, since importing the methods would load torch.
    """
    width = max(map(len, METHODS))
    return [
        f"{name:<{width}}  {_read_summary(name)}  [{', '.join(_read_recipe_names(name))}]"
        for name in METHODS
    ]


def _read_summary(method: str) -> str:
    module, _, attribute = METHODS[method].partition(":")
    for node in _parse("objectives", module).body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "summary":
                    return str(ast.literal_eval(line.value or ast.Constant("")))
    raise RuntimeError(f"method {method} has no summary. This is a bug")


def _read_recipe_names(method: str) -> list[str]:
    body = _parse("recipes", method).body
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return [name for name in functions if not name.startswith("_")]


def _parse(room: str, module: str) -> ast.Module:
    path = Path(__file__).parents[1] / room / f"{module}.py"
    return ast.parse(path.read_text(encoding="utf-8"))
