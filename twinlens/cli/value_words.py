"""Names the values of options in help texts by words, such as `number, 0 to 1`.

What must stay true: only what is shown changes; names given in a declaration (`metavar`) stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

_WORDS: dict[Any, str] = {str: "text", Path: "path", int: "number", float: "number", bool: ""}


def name_values(command: Any) -> None:
    """Name the values of a command's options and arguments, and of the commands below it."""
    for each in _walk(command):
        each.get_params = partial(_list_named, each.get_params)


def _list_named(list_parameters: Callable[[Any], list[Any]], context: Any) -> list[Any]:
    """Return the parameters of a command, `--help` too, which exists only from now on."""
    found = list_parameters(context)
    for parameter in found:
        words = describe_values(parameter)
        parameter._get_number_range_help_str = lambda: None  # the words have it
        if parameter.param_type_name == "option":
            parameter.metavar = words if parameter.metavar is None else parameter.metavar
        else:  # its metavar is its name
            parameter.display_type_rich = lambda ctx, words=words: words
    return found


def describe_values(parameter: Any) -> str:
    """Return in words what an option or argument takes; empty for a switch."""
    annotation = getattr(parameter.type_descriptor, "annotation", str)
    is_list = get_origin(annotation) is list
    kind = get_args(annotation)[0] if is_list else annotation
    words = _WORDS.get(kind, "text") + _describe_range(parameter)
    many = "repeatable" if parameter.param_type_name == "option" else "several"
    return f"{words}, {many}" if is_list else words


def _describe_range(parameter: Any) -> str:
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if low is None and high is None:
        return ""
    if high is None:
        return f", {low} or more"
    return f", up to {high}" if low is None else f", {low} to {high}"


def _walk(command: Any) -> Iterator[Any]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from _walk(inner)
