"""The live rows of a collection as one array, for work that looks at all of them."""

from __future__ import annotations

import numpy as np

from twinlens.index.snapshot import Snapshot
from twinlens.index.stores.store_snapshot import StoreSnapshot
from twinlens.index.vectors.arrays import Floats, Halves, Rids, as_float32

BLOCK = 8192


def read_live_rows(snapshot: Snapshot) -> tuple[Rids, Halves]:
    """Return the rids of the live rows, ascending, and their embeddings (n, d)."""
    if isinstance(snapshot, StoreSnapshot):
        return snapshot.read_rows()
    blocks = [
        (rids[live], rows[live])
        for (rids, live), rows in zip(snapshot.select(None), _blocks(snapshot), strict=True)
    ]
    if not blocks:
        return np.empty(0, np.int64), np.empty((0, snapshot.head.dim), np.float16)
    rids = np.concatenate([block[0] for block in blocks])
    rows: Halves = np.concatenate([block[1] for block in blocks])
    if np.any(np.diff(rids) < 0):
        order = np.argsort(rids)
        rids, rows = rids[order], rows[order]
    return rids, rows


def mean_row(rows: Halves) -> Floats:
    """Return the mean of rows (n, d), which need not fit into memory as float32."""
    total = np.zeros(rows.shape[1], np.float64)
    for start in range(0, len(rows), BLOCK):
        total += as_float32(rows[start : start + BLOCK]).sum(axis=0)
    return as_float32(total / max(1, len(rows)))


def _blocks(snapshot: Snapshot) -> list[Halves]:
    """Return the rows of each part that `select` yields, deleted ones included."""
    blocks: list[Halves] = []
    for part in snapshot.parts:
        part.segment.verify()
        blocks.append(part.segment.embeddings)
    if snapshot.delta.count:
        blocks.append(snapshot.delta.embeddings.astype(np.float16))
    return blocks
