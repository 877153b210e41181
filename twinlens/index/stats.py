"""Statistics of a collection: its size, its segments and its measured recall."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from twinlens.index.ann.recall import MEASURED, NOT_MEASURED, STALE, RecallReport
from twinlens.index.collection import Collection
from twinlens.index.snapshot import SegmentView, Snapshot

MODALITIES = ("image", "text")
DOMAIN_EXTENSION = "domain"  # what the last build found; see `ingest.domain_check`


def read_stats(collection: Collection) -> dict[str, Any]:
    """Return count, sizes, segments and the measured recall by modality."""
    snapshot = collection.snapshot()
    head = collection.head
    recall = report_recall(snapshot)
    return {
        "path": collection.place,
        "count": snapshot.live_count,
        "dim": head.dim,
        "bundle": {
            "name": head.bundle_name,
            "revision": head.bundle_revision,
            "source": head.bundle_source,
        },
        "created": head.created,
        "epoch": head.epoch,
        "bytes": collection.measure_bytes(),
        "recall": {modality: one.value for modality, one in recall.items()},
        "recall_interval": {modality: [one.low, one.high] for modality, one in recall.items()},
        "recall_state": {modality: one.state for modality, one in recall.items()},
        "exact": snapshot.is_exact,
        "delta": int(snapshot.delta.live.sum()),
        "segments": [_describe(part) for part in snapshot.parts],
        "domain": collection.catalog.extensions().get(DOMAIN_EXTENSION),
    }


def report_recall(snapshot: Snapshot) -> dict[str, RecallReport]:
    """Return the recall of a search on the live rows, by modality of query.

    Segments are weighted by their live rows, since true answers are distributed in proportion.
    Exactly searched rows have recall 1. If some measured answers were deleted, the interval is
    wider by their share; beyond `STALE_SHARE` the recall is stale.
    """
    return {modality: _recall_of(snapshot, modality) for modality in MODALITIES}


def measured_recall(snapshot: Snapshot) -> dict[str, float | None]:
    """Return the recall@10 by modality of query; None if stale or never measured."""
    return {modality: one.value for modality, one in report_recall(snapshot).items()}


def _recall_of(snapshot: Snapshot, modality: str) -> RecallReport:
    if (told := snapshot.told_recall(modality)) is not None:
        return told
    missed, total = np.zeros(3), max(1, snapshot.live_count)
    for part in snapshot.parts:
        if part.is_exact or part.ann_index is None:
            continue
        measured = part.ann_index.tuning.recall.get(modality)
        if measured is None:
            return RecallReport(NOT_MEASURED)
        if part.is_stale:
            return RecallReport(STALE)
        lost = part.lost_shares[modality]
        bounds = (measured.value, measured.low - lost, min(1.0, measured.high + lost))
        missed += part.live_count * (1 - np.array(bounds))
    value, low, high = np.round(1 - missed / total, 4).tolist()
    return RecallReport(MEASURED, value, max(0.0, low), high)


def describe_segment(segment: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that `stats` prints for a segment: its index and its measured recall."""
    tuning = segment.get("tuning")
    if tuning is None:
        yield f"{segment['name']}: {segment['rows']} rows, exact"
        return
    params, settings = tuning["params"], segment["settings"]
    codes = settings["factory"]
    if "codes" in settings:
        codes = f"{settings['codes']}; under filters {codes}"
    kind = f"{segment['index']} ({codes})"
    yield f"{segment['name']}: {segment['rows']} rows, {kind}, tuned to {tuning['target']}"
    yield (
        f"  probe {params['probe']}, {params['expansion']} candidates per answer,"
        f" {tuning['milliseconds']:.2f} CPU ms per query"
    )
    for modality, one in tuning["recall"].items():
        reach = f"{tuning['confidence']:.0%}: {one['low']:.4f} to {one['high']:.4f}".replace(
            "%", " %"
        )
        yield f"  {modality}: {one['value']:.4f} ({reach}) on {one['queries']} held-out queries"
    if segment.get("stale"):
        yield "  stale: too many of the measured answers are deleted; `compact` measures again"
    if segment.get("obstacle"):
        yield f"  cannot be opened here, searched exactly: {segment['obstacle']}"
    if segment.get("damage"):
        yield f"  damaged, searched exactly until `verify --repair`: {segment['damage']}"


def _describe(part: SegmentView) -> dict[str, Any]:
    row = part.segment.row
    described: dict[str, Any] = {
        "name": row.name,
        "rows": row.rows,
        "dead": row.rows - part.live_count,
        "index": "exact",
    }
    if part.ann_index:
        index = part.ann_index.row
        described |= {
            "index": index.kind,
            "settings": index.settings,
            "tuning": dataclasses.asdict(part.ann_index.tuning),
        }
        described |= {
            "damage": part.ann_index.damage,
            "obstacle": part.ann_index.obstacle,
            "stale": part.is_stale,
        }
    return described
