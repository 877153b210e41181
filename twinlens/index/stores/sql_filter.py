"""A filter as a condition of SQL on the columns `terms` and `bounds`; every value is a parameter.

What must stay true: a condition is true or false, never null, so that `NOT` is the complement.
"""

from __future__ import annotations

from typing import Any

from twinlens.index.query.filters import (
    Both,
    Comparison,
    Contains,
    Either,
    Equals,
    Filter,
    Has,
    Leaf,
    Near,
    Not,
)
from twinlens.index.query.places import EARTH_KM, LATITUDE, LONGITUDE
from twinlens.index.stores import filter_keys as keys

Condition = tuple[str, list[Any]]  # SQL with %s, and the values of these

_DISTANCE = (
    "2 * {radius} * asin(sqrt(least(1, power(sin(radians({lat} - %s) / 2), 2) +"
    " cos(radians(%s)) * cos(radians({lat})) * power(sin(radians({lon} - %s) / 2), 2)))) <= %s"
)


def write_condition(tree: Filter | None) -> Condition:
    """Return the condition of a filter."""
    if tree is None:
        return "TRUE", []
    if isinstance(tree, Not):
        inner, values = write_condition(tree.part)
        return f"NOT ({inner})", values
    if isinstance(tree, Both | Either):
        return _join(" AND " if isinstance(tree, Both) else " OR ", tree.parts)
    return _write_leaf(tree)


def _write_leaf(leaf: Leaf) -> Condition:
    match leaf:
        case Equals(field, values, negated):
            equal = ("terms && %s::text[]", [[keys.term_of_value(field, one) for one in values]])
            if not negated:
                return equal
            return (
                "(terms @> %s::text[] AND NOT terms && %s::text[])",
                [[keys.term_of_field(field)], *equal[1]],
            )
        case Has(field):
            return "terms @> %s::text[]", [[keys.term_of_field(field)]]
        case Contains(field, part):
            return _write_contains(field, part)
        case Comparison():
            return _write_comparison(leaf)
        case Near():
            return _write_near(leaf)


def _join(word: str, parts: tuple[Filter, ...]) -> Condition:
    written = [write_condition(part) for part in parts]
    return (
        "(" + word.join(text for text, _ in written) + ")",
        [value for _, values in written for value in values],
    )


def _write_contains(field: str, part: str) -> Condition:
    """Return a search in each string of the field, so that no part spans two of them."""
    name = keys.bound_key(field, keys.STRINGS)
    return f"COALESCE(position(%s in bounds->>'{name}') > 0, FALSE)", [keys.check_part(part)]


def _write_comparison(tree: Comparison) -> Condition:
    """Return a comparison: some value is below a limit where the least one is."""
    is_low = tree.sign in {"<", "<="}
    if isinstance(tree.value, str):
        what = keys.LOW_STRING if is_low else keys.HIGH_STRING
        stored = f"(bounds->>'{keys.bound_key(tree.field, what)}') COLLATE \"C\""
    else:
        what = keys.LOW_NUMBER if is_low else keys.HIGH_NUMBER
        stored = f"(bounds->>'{keys.bound_key(tree.field, what)}')::float8"
    return f"COALESCE({stored} {tree.sign} %s, FALSE)", [keys.check_value(tree.value)]


def _write_near(tree: Near) -> Condition:
    lat, lon = (
        f"(bounds->>'{keys.bound_key(name, keys.FIRST_NUMBER)}')::float8"
        for name in (LATITUDE, LONGITUDE)
    )
    inner = _DISTANCE.format(lat=lat, lon=lon, radius=EARTH_KM)
    return (
        f"COALESCE({inner}, FALSE)",
        [tree.latitude, tree.latitude, tree.longitude, tree.km],
    )
