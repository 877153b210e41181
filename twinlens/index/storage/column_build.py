"""Makes columns: of items as they are written, and of rows of older segments.

Items are turned into columns a block at a time, and blocks are joined like segments; so the memory
that a new segment takes is that of its arrays and of the strings of one field, whatever it holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.query.filters import FilterValue, walk_fields
from twinlens.index.storage.columns import Column, ColumnKey, Columns, kind_of
from twinlens.index.storage.words import Words, join_words
from twinlens.index.vectors.arrays import RowNumbers

BLOCK = 32_768  # items whose metadata is turned into columns at a time


def build_columns(items: Iterable[Mapping[str, Any]]) -> Columns:
    """Turn items' metadata into columns; row i is the i-th item."""
    left = iter(items)
    blocks = []
    while block := list(itertools.islice(left, BLOCK)):
        blocks.append(_build_block(block))
    if len(blocks) == 1:
        return blocks[0]
    ends = list(itertools.accumulate((block.count for block in blocks), initial=0))
    numbers = [np.arange(start, end) for start, end in itertools.pairwise(ends)]
    return join_columns(list(zip(blocks, numbers, strict=True)), ends[-1])


def join_columns(parts: Sequence[tuple[Columns, RowNumbers]], count: int) -> Columns:
    """Return columns of `count` rows; each part tells the new number of each of its rows.

    Rows of the number -1 are left out.
    """
    keys = dict.fromkeys(key for columns, _ in parts for key in columns.columns)
    joined = {key: _join_column(key, parts, count) for key in keys}
    return Columns(count, {key: column for key, column in joined.items() if len(column.values)})


def _build_block(items: Sequence[Mapping[str, Any]]) -> Columns:
    cells: dict[ColumnKey, tuple[list[int], list[FilterValue]]] = {}
    for row, metadata in enumerate(items):
        for field, value in walk_fields(metadata):
            rows, values = cells.setdefault((field, kind_of(value)), ([], []))
            rows.append(row)
            values.append(value)
    packed = {key: _pack(key[1], len(items), *cell) for key, cell in cells.items()}
    return Columns(len(items), packed)


def _pack(kind: str, count: int, rows: list[int], values: list[FilterValue]) -> Column:
    places = _sparse(np.asarray(rows, dtype=np.int32), count)
    if kind == "string":
        words = sorted({str(value) for value in values})
        place_of = {word: number for number, word in enumerate(words)}
        codes = np.fromiter((place_of[str(value)] for value in values), np.int32, len(values))
        return Column(places, codes, Words.encode(words))
    return Column(places, np.asarray(values, dtype=np.float64 if kind == "number" else np.bool_))


def _join_column(key: ColumnKey, parts: Sequence[tuple[Columns, RowNumbers]], count: int) -> Column:
    rows: list[RowNumbers] = []
    values: list[npt.NDArray[Any]] = []
    words = []
    for columns, numbers in parts:
        column = columns.columns.get(key)
        if column is None:
            continue
        places = numbers if column.rows is None else numbers[column.rows]
        kept = places >= 0
        rows.append(places[kept])
        values.append(column.values[kept])
        if column.words is not None:
            words.append((column.words, _used(values[-1], len(column.words))))
    joined = None
    if words:
        joined, places_of = join_words(words)
        values = [new[old] for old, new in zip(values, places_of, strict=True)]
    return _in_order(np.concatenate(rows), np.concatenate(values), joined, count)


def _in_order(
    rows: RowNumbers, values: npt.NDArray[Any], words: Words | None, count: int
) -> Column:
    if np.any(rows[1:] < rows[:-1]):
        order = np.argsort(rows, kind="stable")
        rows, values = rows[order], values[order]
    return Column(_sparse(rows.astype(np.int32), count), values, words)


def _sparse(rows: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int32] | None:
    """Return None if each row has one value."""
    each = len(rows) == count and np.array_equal(rows, np.arange(count, dtype=np.int32))
    return None if each else rows


def _used(places: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.bool_]:
    used = np.zeros(count, dtype=bool)
    used[places] = True
    return used
