"""Filters as a small tree, and their meaning for one item's metadata.

A tree is evaluated on columns (`columns.py`); `matches` evaluates it on one item's metadata, as the
reference in tests. `filter_language` parses it from text.

A missing field satisfies no comparison, including `!=` and `not in`; `not (...)` is the plain
complement. A list satisfies a comparison if any of its values does, and `!=` or `not in` if none
equals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

import numpy as np

from twinlens.index.query.places import LATITUDE, LONGITUDE, measure_km

FilterValue = str | float | bool
ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


@dataclass(frozen=True)
class Equals:
    """The field equals one of `values`; negated: it is present and equals none."""

    field: str
    values: tuple[FilterValue, ...]
    negated: bool = False


@dataclass(frozen=True)
class Comparison:
    """The field is less or greater than a number or, by code point, a string."""

    field: str
    sign: str
    value: str | float


@dataclass(frozen=True)
class Contains:
    """The field is a string that contains `part`."""

    field: str
    part: str


@dataclass(frozen=True)
class Has:
    """The field is present and not null."""

    field: str


@dataclass(frozen=True)
class Near:
    """The item's first `latitude` and `longitude` lie within `km` of a place."""

    latitude: float
    longitude: float
    km: float


@dataclass(frozen=True)
class Not:
    """The complement."""

    part: Filter


@dataclass(frozen=True)
class Both:
    """All parts hold (`and`)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Either:
    """At least one part holds (`or`)."""

    parts: tuple[Filter, ...]


Leaf = Equals | Comparison | Contains | Has | Near
Filter = Leaf | Not | Both | Either


def matches(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """Return whether one item's metadata satisfies the filter: the reference for the columns."""
    match tree:
        case Not(part):
            return not matches(part, metadata)
        case Both(parts):
            return all(matches(part, metadata) for part in parts)
        case Either(parts):
            return any(matches(part, metadata) for part in parts)
        case Equals(field, values, negated):
            stored = list(field_values(metadata, field))
            found = any(_same(one, value) for one in stored for value in values)
            return bool(stored) and found != negated
        case Comparison(field, sign, value):
            return any(_ordered(one, sign, value) for one in field_values(metadata, field))
        case Contains(field, part):
            stored_values = field_values(metadata, field)
            return any(isinstance(one, str) and part in one for one in stored_values)
        case Has(field):
            return any(True for _ in field_values(metadata, field))
        case Near():
            return _is_near(tree, metadata)


def fields_of(tree: Filter) -> set[str]:
    """Return the fields that a filter uses."""
    match tree:
        case Not(part):
            return fields_of(part)
        case Both(parts) | Either(parts):
            return set[str]().union(*map(fields_of, parts))
        case Near():
            return {LATITUDE, LONGITUDE}
        case _:
            return {tree.field}


def compared_fields(tree: Filter) -> set[str]:
    """Return the fields whose values a filter compares: `has FIELD` asks of no value."""
    match tree:
        case Not(part):
            return compared_fields(part)
        case Both(parts) | Either(parts):
            return set[str]().union(*map(compared_fields, parts))
        case Has():
            return set()
        case Near():
            return {LATITUDE, LONGITUDE}
        case _:
            return {tree.field}


def field_values(metadata: Mapping[str, Any], field: str) -> Iterator[FilterValue]:
    """Yield the scalars of a (dotted) field: one, those of a list, or none."""
    for name, value in walk_fields(metadata):
        if name == field:
            yield value


def walk_fields(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, FilterValue]]:
    """Yield every (dotted field, scalar) of an item's metadata, without null and NaN."""
    for key, value in metadata.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from walk_fields(value, name + ".")
            continue
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, bool | str):
                yield name, one
            elif isinstance(one, int | float) and one == one:  # NaN differs from itself
                yield name, float(one)


def _is_near(near: Near, metadata: Mapping[str, Any]) -> bool:
    place = [
        next((v for v in field_values(metadata, name) if isinstance(v, float)), None)
        for name in (LATITUDE, LONGITUDE)
    ]
    if place[0] is None or place[1] is None:
        return False
    found = measure_km(near.latitude, near.longitude, np.array(place[:1]), np.array(place[1:]))
    return bool(found[0] <= near.km)


def _same(stored: FilterValue, value: FilterValue) -> bool:
    return _kind(stored) is _kind(value) and stored == value


def _ordered(stored: FilterValue, sign: str, value: str | float) -> bool:
    return _kind(stored) is _kind(value) and ORDERS[sign](stored, value)


def _kind(value: FilterValue) -> type:
    """Return bool, str or float, so that True, 1 and "1" all differ."""
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
