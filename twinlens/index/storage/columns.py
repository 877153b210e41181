"""Metadata as columns, so that evaluating a filter takes microseconds.

Built once when a segment is written, then immutable and read from a map: `column_file` writes them,
`column_build` makes them. A field may hold numbers, strings, booleans and lists of them at once;
each type has its own sparse column. What must stay true: a column gives the same result as
`filters.matches` for each item.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
from twinlens.index.query.places import LATITUDE, LONGITUDE, measure_km
from twinlens.index.storage.words import Words
from twinlens.index.vectors.arrays import Mask

KINDS = ("number", "string", "flag")
ColumnKey = tuple[str, str]  # field and kind
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


@dataclass(frozen=True)
class Column:
    """The scalars of one type in one field: `values[i]` belongs to row `rows[i]`.

    Rows ascend; None: each row has one value. Strings are places in `words`, which is in order, so
    that places compare like their strings.
    """

    rows: npt.NDArray[np.int32] | None
    values: npt.NDArray[Any]  # float64 numbers, bool flags, or int32 places
    words: Words | None = None


class Columns:
    """The filterable metadata of `count` rows."""

    def __init__(self, count: int, columns: Mapping[ColumnKey, Column]) -> None:
        self.count = count
        self.columns = columns

    @property
    def fields(self) -> list[str]:
        """The fields that any row has."""
        return sorted({field for field, _ in self.columns})

    def select(self, tree: Filter) -> Mask:
        """Return one flag per row: whether it satisfies the filter."""
        match tree:
            case Not(part):
                return ~self.select(part)
            case Both(parts):
                return functools.reduce(np.logical_and, map(self.select, parts))
            case Either(parts):
                return functools.reduce(np.logical_or, map(self.select, parts))
            case _:
                return self._select_leaf(tree)

    def _select_leaf(self, leaf: Leaf) -> Mask:
        match leaf:
            case Has(field):
                return self._present(field)
            case Equals(field, values, negated):
                found = np.zeros(self.count, dtype=bool)
                for value in values:
                    found |= self._equal(field, value)
                return self._present(field) & ~found if negated else found
            case Comparison(field, sign, value):
                return self._order(field, sign, value)
            case Contains(field, part):
                return self._contain(field, part)
            case Near(latitude, longitude, km):
                places = [self._first_numbers(name) for name in (LATITUDE, LONGITUDE)]
                return measure_km(latitude, longitude, places[0], places[1]) <= km

    def _present(self, field: str) -> Mask:
        found = np.zeros(self.count, dtype=bool)
        for kind in KINDS:
            column = self.columns.get((field, kind))
            if column is not None:
                found[slice(None) if column.rows is None else column.rows] = True
        return found

    def _equal(self, field: str, value: FilterValue) -> Mask:
        column = self.columns.get((field, kind_of(value)))
        if column is None:
            return np.zeros(self.count, dtype=bool)
        if isinstance(value, str):
            value = _words_of(column).find(value)
        return self._rows_where(column, column.values == value)

    def _order(self, field: str, sign: str, value: str | float) -> Mask:
        column = self.columns.get((field, kind_of(value)))
        if column is None:
            return np.zeros(self.count, dtype=bool)
        if isinstance(value, str):
            # All places below `bound` are lower than the value.
            bound = _words_of(column).position(value, "left" if sign in {"<", ">="} else "right")
            below = column.values < bound
            return self._rows_where(column, below if sign in {"<", "<="} else ~below)
        return self._rows_where(column, _COMPARE[sign](column.values, value))

    def _contain(self, field: str, part: str) -> Mask:
        column = self.columns.get((field, "string"))
        if column is None:
            return np.zeros(self.count, dtype=bool)
        return self._rows_where(column, _words_of(column).contain(part)[column.values])

    def _first_numbers(self, field: str) -> npt.NDArray[np.float64]:
        """Return each row's first number in a field, NaN without one."""
        numbers = np.full(self.count, np.nan)
        column = self.columns.get((field, "number"))
        if column is not None:
            places = np.arange(self.count) if column.rows is None else column.rows
            numbers[places[::-1]] = column.values[::-1]  # of equal places the last write stays
        return numbers

    def _rows_where(self, column: Column, hits: Mask) -> Mask:
        if column.rows is None:
            return hits
        found = np.zeros(self.count, dtype=bool)
        found[column.rows[hits]] = True
        return found


def kind_of(value: FilterValue) -> str:
    """Return the kind of column that holds a value."""
    if isinstance(value, bool):
        return "flag"
    return "string" if isinstance(value, str) else "number"


def _words_of(column: Column) -> Words:
    if column.words is None:
        raise RuntimeError("a column of strings has words: this is a bug")
    return column.words
