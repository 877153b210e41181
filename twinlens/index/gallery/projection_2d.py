"""A collection as points in a plane for the map: principal components of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinlens.index.collection import Collection
from twinlens.index.snapshot import Snapshot
from twinlens.index.vectors.arrays import Floats, Rids, as_float32

MOST_POINTS = 100_000


@dataclass(frozen=True)
class Plane:
    """Ids with coordinates (n, 2) between -1 and 1, which explain `share` of the variance."""

    ids: tuple[str, ...]
    points: Floats
    share: float
    total: int
    rids: Rids


def project_to_plane(collection: Collection, most: int = 2000) -> Plane:
    """Return up to `most` items, sampled uniformly, projected to two principal components."""
    snapshot = collection.snapshot()
    rids = np.concatenate(
        [part_rids[live] for part_rids, live in snapshot.select(None)] or [np.empty(0, int)]
    )
    total = len(rids)
    if total > most:
        rids = np.sort(np.random.default_rng(0).choice(rids, most, replace=False))
    items = collection.catalog.by_rid(rids.tolist())
    present, rows = read_rows(snapshot, np.array([r for r in rids.tolist() if r in items], int))
    if not len(present):
        return Plane((), np.empty((0, 2), np.float32), 0.0, total, np.empty(0, np.int64))
    points, share = find_main_axes(rows)
    ids = tuple(items[rid].id for rid in present.tolist())
    return Plane(ids, scale_to_one(points), share, total, present)


def read_rows(snapshot: Snapshot, rids: Rids) -> tuple[Rids, Floats]:
    """Return which of these rows are there, and their embeddings (n, d)."""
    rows = np.empty((len(rids), snapshot.head.dim), np.float32)
    found = np.zeros(len(rids), bool)
    for part in snapshot.parts:
        places = part.segment.place_of(rids)
        here = places >= 0
        if here.any():
            part.segment.verify_rids()
            part.segment.verify_rows(places[here])
            rows[here] = part.segment.embeddings[places[here]]
            found |= here
    delta = snapshot.delta
    if delta.count and len(rids):
        places = np.minimum(np.searchsorted(delta.rids, rids), delta.count - 1)
        here = delta.rids[places] == rids
        rows[here] = delta.embeddings[places[here]]
        found |= here
    for place in np.flatnonzero(~found):  # in a store, or deleted since
        row = snapshot.embedding(int(rids[place]))
        if row is not None:
            rows[place], found[place] = row, True
    return rids[found], rows[found]


def find_main_axes(rows: Floats) -> tuple[Floats, float]:
    """Return the first two principal components (n, 2) and their share of the variance."""
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    points = centred @ vectors[:, ::-1][:, :2]
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    return as_float32(points), float(values[::-1][:2].sum() / max(values.sum(), 1e-12))


def scale_to_one(points: Floats) -> Floats:
    """Return points around zero, scaled so that the farthest coordinate is 1."""
    return as_float32(points / max(float(np.abs(points).max()), 1e-12))
