"""Brace lists, as WebDataset names shards: `shard-{000000..000099}.tar`, `{train,extra}/a.tar`.

What must stay true: the list is bounded, and names come in the order of the braces.
"""

from __future__ import annotations

import re

from twinlens.errors import InputError

MOST_NAMES = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(text: str) -> list[str]:
    """Return the names in a brace list; the text alone if it has no braces."""
    names = [""]
    place = 0
    for found in _BRACES.finditer(text):
        options = _read_options(found[1], text)
        fixed = text[place : found.start()]
        if len(names) * len(options) > MOST_NAMES:
            raise InputError(f"{text} names more than {MOST_NAMES} files", field="DATA")
        names = [name + fixed + option for name in names for option in options]
        place = found.end()
    return [name + text[place:] for name in names]


def _read_options(inside: str, text: str) -> list[str]:
    found = _RANGE.fullmatch(inside)
    if found is None:
        if "," not in inside:
            raise InputError(
                f"{text}: {{{inside}}} is neither a range such as {{000..099}} nor a list such as"
                " {a,b}",
                field="DATA",
            )
        return inside.split(",")
    first, last, width = int(found[1]), int(found[2]), len(found[1])
    if not first <= last < first + MOST_NAMES:
        raise InputError(
            f"{text}: {{{inside}}} must rise and hold at most {MOST_NAMES} numbers", field="DATA"
        )
    return [f"{number:0{width}}" for number in range(first, last + 1)]
