"""What a store keeps of an item's metadata so that it can answer the one filter language.

Stores differ in what they say of missing fields, lists, and values of mixed kinds. So metadata is
reduced to two things with one meaning everywhere: *terms*, a set of hashes for what an item has
and equals; and *bounds*, the least and the greatest number and string of each field. What must
stay true: a filter asked of these keys chooses the items that `filters.matches` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinlens.errors import InputError
from twinlens.index.query.filters import FilterValue, walk_fields
from twinlens.index.query.places import LATITUDE, LONGITUDE

MOST_TERMS = 4096  # as many as Milvus keeps in one array
BETWEEN = "\x1e"  # stands between the strings of a list
LOW_NUMBER, HIGH_NUMBER, LOW_STRING, HIGH_STRING, STRINGS, FIRST_NUMBER = (
    *("n0", "n1"),
    *("s0", "s1", "s"),
    "p",
)


@dataclass(frozen=True)
class FilterKeys:
    """The terms and bounds of one item."""

    terms: list[str]
    bounds: dict[str, float | str]
    fields: frozenset[str]


def build_keys(metadata: Mapping[str, Any]) -> FilterKeys:
    """Return the keys of an item's metadata, as JSON gives it."""
    values: dict[str, list[FilterValue]] = {}
    for name, value in walk_fields(metadata):
        values.setdefault(name, []).append(value)
    terms: dict[str, None] = {}
    bounds: dict[str, float | str] = {}
    for name, found in values.items():
        terms[term_of_field(name)] = None
        terms.update((term_of_value(name, value), None) for value in found)
        for kind in _add_bounds(bounds, name, found):
            terms[term_of_kind(name, kind)] = None
    if len(terms) > MOST_TERMS:
        raise InputError(
            f"metadata has {len(terms)} values and fields; a store keeps {MOST_TERMS} of an item:"
            " leave fields out",
            field="metadata",
        )
    return FilterKeys(list(terms), bounds, frozenset(values))


def term_of_field(field: str) -> str:
    """Return the term of every item that has a field."""
    return _hash("has", field)


def term_of_kind(field: str, kind: str) -> str:
    """Return the term of every item whose field has a number (`n`) or a string (`s`)."""
    return _hash("kind", field, kind)


def term_of_value(field: str, value: FilterValue) -> str:
    """Return the term of every item whose field equals a value: True, 1 and "1" all differ."""
    if isinstance(value, bool):
        return _hash("flag", field, str(value))
    if isinstance(value, str):
        return _hash("text", field, value)
    return _hash("number", field, repr(float(value) + 0.0))  # -0.0 equals 0.0


def bound_key(field: str, what: str) -> str:
    """Return the key of a field's bound; a hash, since stores quote names differently."""
    return f"{what}_{_hash('bound', field)}"


def check_part(part: str) -> str:
    """Return the string of a `contains`; refuse one that could span two strings of a list."""
    if BETWEEN in part:
        raise InputError(
            "filter: `contains` in a store cannot look for U+001E, which stands between the strings"
            " of a list; leave it out",
            field="filter",
        )
    return str(check_value(part))


def check_value(value: str | float) -> str | float:
    """Return a value to compare with; refuse a string that a store cannot be asked for."""
    if isinstance(value, str) and (
        "\0" in value or (not value.isascii() and _has_surrogate(value))
    ):
        raise InputError(
            f"filter: {value[:40]!r} holds U+0000 or half a character; leave it out",
            field="filter",
        )
    return value


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _add_bounds(bounds: dict[str, float | str], name: str, found: list[FilterValue]) -> list[str]:
    """Add a field's bounds; return the kinds of value that it has."""
    numbers = [one for one in found if isinstance(one, float)]
    strings = [one for one in found if isinstance(one, str)]
    if numbers:
        bounds[bound_key(name, LOW_NUMBER)] = min(numbers)
        bounds[bound_key(name, HIGH_NUMBER)] = max(numbers)
        if name in (LATITUDE, LONGITUDE):
            bounds[bound_key(name, FIRST_NUMBER)] = numbers[0]
    if strings:
        bounds[bound_key(name, LOW_STRING)] = min(strings)
        bounds[bound_key(name, HIGH_STRING)] = max(strings)
        bounds[bound_key(name, STRINGS)] = BETWEEN.join(strings)
    return [kind for kind, some in (("n", numbers), ("s", strings)) if some]


def _hash(*parts: str) -> str:
    joined = "\0".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=12).hexdigest()
