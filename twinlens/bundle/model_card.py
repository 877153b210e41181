"""The model card: what a model is for, what it is not for, and what it learned from.

It is the extension `card` of the manifest: information, outside the revision. What must stay true:
a written card has only known fields; a card that is read may have more, since later versions add
fields.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.bundle.manifest import Manifest
from twinlens.errors import InputError

EXTENSION = "card"
_LISTS = ("good_for", "not_for", "languages")


@dataclass(frozen=True)
class ModelCard:
    """What a user should know before choosing a model; unknown fields are empty."""

    domain: str = ""  # what it knows, in a few words
    good_for: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    licence: str = ""
    training_data: str = ""

    @property
    def headline(self) -> str:
        """What it is for and what it is not for, in one line; empty if neither is known."""
        parts = [f"for {self.domain}"] if self.domain else []
        parts += [f"not for {'; '.join(self.not_for)}"] if self.not_for else []
        return "; ".join(parts)

    def to_extension(self) -> dict[str, Any]:
        """Return the card in the manifest's form, without unknown fields."""
        fields = dataclasses.asdict(self).items()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields if v}


def read_card(manifest: Manifest) -> ModelCard | None:
    """Return the bundle's card, leaving out what this version does not understand."""
    raw = manifest.extensions.get(EXTENSION)
    if raw is None:
        return None
    known = {field.name for field in dataclasses.fields(ModelCard)}
    return _build({k: v for k, v in raw.items() if k in known and _fits(k, v)})


def parse_card(raw: Mapping[str, Any]) -> ModelCard:
    """Return a card to write; raise, naming the field, if one is wrong or unknown."""
    known = [field.name for field in dataclasses.fields(ModelCard)]
    for name, value in raw.items():
        if name not in known:
            raise InputError(
                f"card: unknown field {name!r}; known: {', '.join(known)}", field=f"card.{name}"
            )
        if not _fits(name, value):
            expected = "a list of texts" if name in _LISTS else "a text"
            raise InputError(f"card.{name} is {value!r}; expected {expected}", field=f"card.{name}")
    return _build(raw)


def read_card_file(path: Path) -> ModelCard:
    """Return the card in a JSON file."""
    if not path.is_file():
        raise InputError(f"--card {str(path)!r} is not a file", field="card")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"--card {path} is not JSON: {error}", field="card") from None
    if not isinstance(raw, dict):
        raise InputError(f"--card {path} does not hold an object", field="card")
    return parse_card(raw)


def _build(fields: Mapping[str, Any]) -> ModelCard:
    values: dict[str, Any] = {k: tuple(v) if k in _LISTS else v for k, v in fields.items()}
    return ModelCard(**values)


def _fits(name: str, value: object) -> bool:
    if name not in _LISTS:
        return isinstance(value, str)
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
