"""A filter as an expression of Milvus on the fields `terms` and `bounds`.

Milvus has no escaped `like` in every edition and knows no distances. A leaf that it can only narrow
is resolved: the rows it leaves are judged here, and their numbers take its place. What must stay
true: an expression is true or false for every row, never unknown, so that `not` is the complement.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from twinlens.index.query.filters import (
    Both,
    Comparison,
    Contains,
    Either,
    Equals,
    Filter,
    FilterValue,
    Has,
    Leaf,
    Near,
    Not,
)
from twinlens.index.query.places import EARTH_KM, LATITUDE
from twinlens.index.stores import filter_keys as keys

EVERYTHING, NOTHING = "rid >= 0", "rid < 0"
ResolveRows = Callable[
    [str, Filter], Sequence[int]
]  # narrowing expression, leaf -> numbers of rows
_SPECIAL = frozenset('%_\\"')  # of a pattern, or of its quotes


def write_expression(tree: Filter | None, resolve: ResolveRows) -> str:
    """Return the expression of a filter."""
    if tree is None:
        return EVERYTHING
    if isinstance(tree, Not):
        return f"not ({write_expression(tree.part, resolve)})"
    if isinstance(tree, Both | Either):
        word = " and " if isinstance(tree, Both) else " or "
        return "(" + word.join(write_expression(part, resolve) for part in tree.parts) + ")"
    return _write_leaf(tree, resolve)


def _write_leaf(leaf: Leaf, resolve: ResolveRows) -> str:
    match leaf:
        case Equals(field, values, negated):
            return _write_equals(field, values, negated)
        case Has(field):
            return _has(keys.term_of_field(field))
        case Comparison():
            return _write_comparison(leaf)
        case Contains(field, part):
            return _write_contains(leaf, field, keys.check_part(part), resolve)
        case Near():
            return _pick(resolve(_around(leaf), leaf))


def _write_equals(field: str, values: tuple[FilterValue, ...], negated: bool) -> str:
    terms = json.dumps([keys.term_of_value(field, one) for one in values])
    equal = f"array_contains_any(terms, {terms})"
    return f"({_has(keys.term_of_field(field))} and not ({equal}))" if negated else equal


def _write_comparison(leaf: Comparison) -> str:
    """Return a comparison with the least or greatest value, where there is one of its kind."""
    is_low, is_text = leaf.sign in {"<", "<="}, isinstance(leaf.value, str)
    if is_text:
        kind, what = "s", keys.LOW_STRING if is_low else keys.HIGH_STRING
    else:
        kind, what = "n", keys.LOW_NUMBER if is_low else keys.HIGH_NUMBER
    value = keys.check_value(leaf.value)
    written = json.dumps(value, ensure_ascii=False) if is_text else repr(float(value))
    if written in {"inf", "-inf"}:  # every number is smaller, or greater
        return _has(keys.term_of_kind(leaf.field, "n")) if is_low == (written == "inf") else NOTHING
    stored = f'bounds["{keys.bound_key(leaf.field, what)}"]'
    return f"({_has(keys.term_of_kind(leaf.field, kind))} and {stored} {leaf.sign} {written})"


def _write_contains(leaf: Filter, field: str, part: str, resolve: ResolveRows) -> str:
    stored = f'bounds["{keys.bound_key(field, keys.STRINGS)}"]'
    has = _has(keys.term_of_kind(field, "s"))
    if not part.isprintable() or _SPECIAL.intersection(part):
        return _pick(resolve(has, leaf))
    return f'({has} and {stored} like "%{part}%")'


def _around(near: Near) -> str:
    """Return the band of latitudes that a circle lies in."""
    reach = math.degrees(near.km / EARTH_KM) * (1 + 1e-9) + 1e-9
    stored = f'bounds["{keys.bound_key(LATITUDE, keys.FIRST_NUMBER)}"]'
    low, high = near.latitude - reach, near.latitude + reach
    has = _has(keys.term_of_kind(LATITUDE, "n"))
    return f"({has} and {stored} >= {low!r} and {stored} <= {high!r})"


def _has(term: str) -> str:
    return f'array_contains(terms, "{term}")'


def _pick(rids: Sequence[int]) -> str:
    return f"rid in {list(rids)}" if len(rids) else NOTHING
