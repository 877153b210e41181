"""A collection as points in a plane for the map: principal components of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinlens.index.collection import Collection
from twinlens.index.vectors.arrays import Floats

MOST_POINTS = 20_000


@dataclass(frozen=True)
class Plane:
    """Ids with coordinates (n, 2) between -1 and 1, which explain `share` of the variance."""

    ids: tuple[str, ...]
    points: Floats
    share: float
    total: int


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
    found = [(items[rid].id, snapshot.embedding(rid)) for rid in rids.tolist() if rid in items]
    present = [(name, row) for name, row in found if row is not None]
    if not present:
        return Plane((), np.empty((0, 2), np.float32), 0.0, total)
    rows = np.stack([row for _, row in present])
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    points = centred @ vectors[:, ::-1][:, :2]
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    share = float(values[::-1][:2].sum() / max(values.sum(), 1e-12))
    scaled = points / max(float(np.abs(points).max()), 1e-12)
    return Plane(tuple(name for name, _ in present), scaled.astype(np.float32), share, total)
