"""Names that clients have built in, and the served model that each stands for.

    --alias text-embedding-3-small=photos --alias ViT-B-32__openai=photos:512

What must stay true: an alias never hides a served name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from twinlens.errors import InputError

_ALIAS = re.compile(
    r"(?P<name>[^=,\s]+)=(?P<model>[A-Za-z0-9][A-Za-z0-9._-]*)(:(?P<width>[0-9]+))?"
)
_WIDEST = 65_536


@dataclass(frozen=True)
class Alias:
    """Another name of a model."""

    name: str
    model: str
    width: int | None = None  # how long the rows are that clients of this name expect


def read_aliases(texts: Iterable[str]) -> dict[str, Alias]:
    """Return the aliases by name, each given as NAME=MODEL or NAME=MODEL:WIDTH."""
    return {alias.name: alias for alias in map(_read_alias, texts)}


def _read_alias(text: str) -> Alias:
    found = _ALIAS.fullmatch(text)
    width = int(found["width"]) if found is not None and found["width"] else None
    if found is None or (width is not None and not 1 <= width <= _WIDEST):
        raise InputError(
            f"alias {text[:80]!r} is not NAME=MODEL or NAME=MODEL:WIDTH, as "
            "text-embedding-3-small=photos or ViT-B-32__openai=photos:512",
            field="aliases",
        )
    return Alias(found["name"], found["model"], width)
