"""Metadata as columns, so that evaluating a filter takes microseconds.

Built once when a segment is written, then immutable. A field may hold numbers, strings, booleans
and lists of them at once; each type has its own sparse column. What must stay true: a column gives
the same result as `filters.matches` for each item.
"""

from __future__ import annotations

import functools
import io
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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
    walk_fields,
)
from twinlens.index.query.places import LATITUDE, LONGITUDE, measure_km
from twinlens.index.vectors.arrays import Mask

COLUMNS_NAME = "columns.npz"
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


@dataclass(frozen=True)
class Column:
    """The scalars of one type in one field: `values[i]` belongs to row `rows[i]`.

    Strings are codes into `words`, which is sorted, so that codes compare like their strings.
    """

    rows: npt.NDArray[np.int32]
    values: npt.NDArray[Any]  # float64 numbers, bool flags, or int32 codes
    words: tuple[str, ...] = ()


class Columns:
    """The filterable metadata of `count` rows."""

    def __init__(self, count: int, columns: Mapping[tuple[str, str], Column]) -> None:
        self.count = count
        self._columns = columns

    @classmethod
    def build(cls, items: Iterable[Mapping[str, Any]]) -> Columns:
        """Turn items' metadata into columns; row i is the i-th item."""
        cells: dict[tuple[str, str], tuple[list[int], list[FilterValue]]] = {}
        count = 0
        for row, metadata in enumerate(items):
            count = row + 1
            for field, value in walk_fields(metadata):
                rows, values = cells.setdefault((field, _kind(value)), ([], []))
                rows.append(row)
                values.append(value)
        return cls(count, {key: _pack(key[1], *cell) for key, cell in cells.items()})

    @property
    def fields(self) -> list[str]:
        """The fields that any row has."""
        return sorted({field for field, _ in self._columns})

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
        for kind in ("number", "string", "flag"):
            column = self._columns.get((field, kind))
            if column is not None:
                found[column.rows] = True
        return found

    def _equal(self, field: str, value: FilterValue) -> Mask:
        column = self._columns.get((field, _kind(value)))
        if column is None:
            return np.zeros(self.count, dtype=bool)
        if isinstance(value, str):
            code = _position(column.words, value, "left")
            if code == len(column.words) or column.words[code] != value:
                return np.zeros(self.count, dtype=bool)
            return self._rows_where(column, column.values == code)
        return self._rows_where(column, column.values == value)

    def _order(self, field: str, sign: str, value: str | float) -> Mask:
        column = self._columns.get((field, _kind(value)))
        if column is None:
            return np.zeros(self.count, dtype=bool)
        if isinstance(value, str):
            # All codes below `bound` are lower than the value.
            bound = _position(column.words, value, "left" if sign in {"<", ">="} else "right")
            below = column.values < bound
            return self._rows_where(column, below if sign in {"<", "<="} else ~below)
        return self._rows_where(column, _COMPARE[sign](column.values, value))

    def _contain(self, field: str, part: str) -> Mask:
        column = self._columns.get((field, "string"))
        if column is None:
            return np.zeros(self.count, dtype=bool)
        hit = np.fromiter((part in word for word in column.words), bool, len(column.words))
        return self._rows_where(column, hit[column.values])

    def _first_numbers(self, field: str) -> npt.NDArray[np.float64]:
        """Return each row's first number in a field, NaN without one."""
        numbers = np.full(self.count, np.nan)
        column = self._columns.get((field, "number"))
        if column is not None:
            numbers[column.rows[::-1]] = column.values[::-1]  # of equal places the last write stays
        return numbers

    def _rows_where(self, column: Column, hits: Mask) -> Mask:
        found = np.zeros(self.count, dtype=bool)
        found[column.rows[hits]] = True
        return found

    def save(self, folder: Path) -> None:
        """Write the columns into a segment's folder."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        fields = []
        for number, ((field, kind), column) in enumerate(sorted(self._columns.items())):
            fields.append([field, kind])
            arrays[f"rows{number}"] = column.rows
            arrays[f"values{number}"] = column.values
            if kind == "string":
                arrays[f"words{number}"] = _to_bytes(json.dumps(column.words))
        head = _to_bytes(json.dumps({"count": self.count, "fields": fields}))
        with (folder / COLUMNS_NAME).open("wb") as handle:
            np.savez(handle, allow_pickle=False, head=head, **arrays)

    @classmethod
    def load(cls, source: BinaryIO | io.BytesIO) -> Columns:
        """Read columns back from an open `columns.npz`."""
        with np.load(source, allow_pickle=False) as arrays:
            head = json.loads(bytes(arrays["head"]))
            columns = {}
            for number, (field, kind) in enumerate(head["fields"]):
                words = json.loads(bytes(arrays[f"words{number}"])) if kind == "string" else ()
                columns[field, kind] = Column(
                    arrays[f"rows{number}"], arrays[f"values{number}"], tuple(words)
                )
        return cls(int(head["count"]), columns)


def _kind(value: FilterValue) -> str:
    if isinstance(value, bool):
        return "flag"
    return "string" if isinstance(value, str) else "number"


def _pack(kind: str, rows: list[int], values: list[FilterValue]) -> Column:
    place = np.asarray(rows, dtype=np.int32)
    if kind == "string":
        words = sorted({str(value) for value in values})
        code = {word: number for number, word in enumerate(words)}
        codes = np.fromiter((code[str(value)] for value in values), np.int32, len(values))
        return Column(place, codes, tuple(words))
    return Column(place, np.asarray(values, dtype=np.float64 if kind == "number" else np.bool_))


def _position(words: tuple[str, ...], value: str, side: str) -> int:
    """Return the position of `value` in sorted `words`, before or after equal words."""
    return bisect_left(words, value) if side == "left" else bisect_right(words, value)


def _to_bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
