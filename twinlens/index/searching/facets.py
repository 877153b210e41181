"""How many items have which value of a field: the choices that a user filters by.

Counted in the columns that filters read, so that no metadata is read item by item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.query.filters import Filter, FilterValue
from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.columns import Column
from twinlens.index.vectors.arrays import Mask

MOST_FIELDS = 12
MOST_VALUES = 12  # of a field that are shown
MOST_DISTINCT = 200  # values; a field with more tells items apart instead of grouping them
MOST_READ = 4096  # distinct values of one part that are read


@dataclass(frozen=True)
class Facet:
    """The most frequent values of one field with their numbers of items."""

    field: str
    values: tuple[tuple[FilterValue, int], ...]
    distinct: int


def count_facets(snapshot: Snapshot, tree: Filter | None = None) -> list[Facet]:
    """Return the fields that group the items, those that cover most items first."""
    counts: dict[str, Counter[FilterValue]] = {}
    excess: set[str] = set()
    for columns, chosen in snapshot.select_columns(tree):
        for (field, _), column in columns.columns.items():
            if field not in excess:
                found = counts.setdefault(field, Counter())
                if not _add(found, column, chosen) or len(found) > MOST_DISTINCT:
                    excess.add(field)
    facets = [
        Facet(field, tuple(found.most_common(MOST_VALUES)), len(found))
        for field, found in counts.items()
        if field not in excess and _is_grouping(found)
    ]
    covered = {one.field: counts[one.field].total() for one in facets}
    return sorted(facets, key=lambda one: (-covered[one.field], one.field))[:MOST_FIELDS]


def _is_grouping(found: Counter[FilterValue]) -> bool:
    """Return whether values repeat: a field of another value in each item is no choice."""
    return len(found) > 0 and (len(found) <= MOST_VALUES or found.total() >= 2 * len(found))


def _add(found: Counter[FilterValue], column: Column, chosen: Mask) -> bool:
    """Count a column's values; False where it has too many distinct ones."""
    kept = column.values if column.rows is None else column.values[chosen[column.rows]]
    if column.rows is None:
        kept = column.values[chosen]
    values, counts = np.unique(kept, return_counts=True)
    if len(values) > MOST_READ:
        return False
    for value, count in zip(_read(column, values), counts.tolist(), strict=True):
        found[value] += count
    return True


def _read(column: Column, values: npt.NDArray[Any]) -> Iterator[FilterValue]:
    """Yield the values as filters write them."""
    for value in values.tolist():
        if column.words is not None:
            yield column.words.read(int(value))
        elif isinstance(value, float) and value.is_integer():
            yield int(value)
        else:
            yield value
