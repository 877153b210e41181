"""Finds items that are far from all others, and labels that disagree with their neighbours'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.query.filters import field_values
from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.records import Item
from twinlens.index.upkeep.live_rows import read_live_rows
from twinlens.index.upkeep.neighbours import find_nearest
from twinlens.index.vectors.arrays import Floats, Halves, Rids, RowNumbers

NEIGHBOURS = 10
AGREED = 0.6  # of the neighbours must have one other label


@dataclass(frozen=True)
class Outlier:
    """An item and the mean cosine to its nearest neighbours."""

    item: Item
    cosine: float


@dataclass(frozen=True)
class Disagreement:
    """An item whose neighbours mostly have one other label, and their share."""

    item: Item
    label: str
    expected: str
    share: float


def find_outliers(collection: Collection, count: int) -> list[Outlier]:
    """Return the items least similar to their neighbours, the farthest first."""
    rids, rows, snapshot = _read(collection, count)
    nearest = _neighbours(snapshot, rids, rows)
    if nearest is None:
        return []
    means = nearest[1].mean(axis=1)
    order = np.argsort(means, kind="stable")[:count]
    items = collection.catalog.by_rid(rids[order].tolist())
    return [
        Outlier(items[rid], float(means[place]))
        for place, rid in zip(order.tolist(), rids[order].tolist(), strict=True)
        if rid in items
    ]


def find_disagreements(collection: Collection, field: str, count: int) -> list[Disagreement]:
    """Return the items whose label differs from that of most neighbours, the surest first."""
    rids, rows, snapshot = _read(collection, count)
    nearest = _neighbours(snapshot, rids, rows)
    if nearest is None:
        return []
    labels = _labels(collection, rids, field)
    found = []
    for place, rid in enumerate(rids.tolist()):
        near = [labels[other] for other in nearest[0][place].tolist() if labels[other]]
        if not (near and labels[place]):
            continue
        expected, number = Counter(near).most_common(1)[0]
        if expected != labels[place] and number >= AGREED * len(near):
            found.append((number / len(near), rid, labels[place], expected))
    found.sort(key=lambda one: (-one[0], one[1]))
    items = collection.catalog.by_rid([rid for _, rid, _, _ in found[:count]])
    return [
        Disagreement(items[rid], label, expected, share)
        for share, rid, label, expected in found[:count]
        if rid in items
    ]


def _read(collection: Collection, count: int) -> tuple[Rids, Halves, Snapshot]:
    if count < 1:
        raise InputError(f"count is {count}; it must be at least 1", field="count")
    snapshot = collection.snapshot()
    return *read_live_rows(snapshot), snapshot


def _neighbours(snapshot: Snapshot, rids: Rids, rows: Halves) -> tuple[RowNumbers, Floats] | None:
    """Return the nearest other rows of each row, with their cosines; None without others."""
    count = min(NEIGHBOURS, len(rows) - 1)
    if count < 1:
        return None
    places = np.empty((len(rows), count), np.int64)
    cosines = np.empty((len(rows), count), np.float32)
    for start, found, near in find_nearest(snapshot, rids, rows, count + 1):
        own = np.arange(start, start + len(found))[:, None]
        near = np.where((found == own) | (found < 0), -np.inf, near)  # itself comes last
        order = np.argsort(-near, axis=1, kind="stable")[:, :count]
        places[start : start + len(found)] = np.take_along_axis(found, order, 1)
        cosines[start : start + len(found)] = np.take_along_axis(near, order, 1)
    return places, np.maximum(cosines, -1.0)


def _labels(collection: Collection, rids: Rids, field: str) -> Sequence[str]:
    """Return the first value of the field of each row as text, empty where there is none."""
    labels = []
    for start in range(0, len(rids), 1000):
        page = rids[start : start + 1000].tolist()
        items = collection.catalog.by_rid(page)
        for rid in page:
            values = list(field_values(items[rid].metadata, field)) if rid in items else []
            labels.append(str(values[0]) if values else "")
    if not any(labels):
        raise InputError(f"no item has a field {field!r}", field="label")
    return labels
