"""Statistics of a collection: its size, its segments and its measured recall."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinlens.index.collection import Collection
from twinlens.index.snapshot import SegmentView, Snapshot

MODALITIES = ("image", "text")


def read_stats(collection: Collection) -> dict[str, Any]:
    """Return count, sizes, segments and the measured recall by modality."""
    snapshot = collection.snapshot()
    head = collection.head
    folder: Path = collection.folder
    return {
        "path": str(folder),
        "count": snapshot.live_count,
        "dim": head.dim,
        "bundle": {
            "name": head.bundle_name,
            "revision": head.bundle_revision,
            "source": head.bundle_source,
        },
        "created": head.created,
        "epoch": head.epoch,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "recall": measured_recall(snapshot),
        "exact": all(part.ann_index is None for part in snapshot.parts),
        "delta": int(snapshot.delta.live.sum()),
        "segments": [_describe(part) for part in snapshot.parts],
    }


def measured_recall(snapshot: Snapshot) -> dict[str, float | None]:
    """Return the recall@10 of a search by modality of query; None if it was never measured.

    Segments are weighted by their rows, since true answers are distributed in proportion. Exactly
    searched rows have recall 1.
    """
    total = snapshot.live_count
    recall: dict[str, float | None] = {}
    for modality in MODALITIES:
        missed: float | None = 0.0
        for part in snapshot.parts:
            if part.ann_index is None or part.ann_index.damage:
                continue
            measured = part.ann_index.tuning.recall.get(modality)
            if measured is None or missed is None:
                missed = None
            else:
                missed += len(part.segment) * (1 - measured.value)
        recall[modality] = None if missed is None else round(1 - missed / max(1, total), 4)
    return recall


def describe_segment(segment: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that `stats` prints for a segment: its index and its measured recall."""
    tuning = segment.get("tuning")
    if tuning is None:
        yield f"{segment['name']}: {segment['rows']} rows, exact"
        return
    params, kind = tuning["params"], f"{segment['index']} ({segment['settings']['factory']})"
    yield f"{segment['name']}: {segment['rows']} rows, {kind}, tuned to {tuning['target']}"
    yield (
        f"  probe {params['probe']}, {params['expansion']} candidates per answer,"
        f" {tuning['milliseconds']:.2f} CPU ms per query"
    )
    for modality, one in tuning["recall"].items():
        reach = f"{one['low']:.4f} to {one['high']:.4f}"
        yield f"  {modality}: {one['value']:.4f} ({reach}) on {one['queries']} held-out queries"
    if segment.get("damage"):
        yield f"  damaged, searched exactly until `verify --repair`: {segment['damage']}"


def _describe(part: SegmentView) -> dict[str, Any]:
    row = part.segment.row
    described: dict[str, Any] = {
        "name": row.name,
        "rows": row.rows,
        "dead": 0 if part.live is None else int((~part.live).sum()),
        "index": "exact",
    }
    if part.ann_index:
        index = part.ann_index.row
        described |= {
            "index": index.kind,
            "settings": index.settings,
            "tuning": dataclasses.asdict(part.ann_index.tuning),
        }
        described["damage"] = part.ann_index.damage
    return described
