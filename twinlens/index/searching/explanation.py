"""Tells how a search was run: the path through each segment, and the recall measured for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from twinlens.index.ann.candidates import TUNED_K
from twinlens.index.ann.tuner import FILTERED_TARGET
from twinlens.index.query.filters import Filter
from twinlens.index.snapshot import SegmentView, Snapshot
from twinlens.index.stats import measured_recall
from twinlens.index.stores.store_snapshot import StoreSnapshot
from twinlens.index.vectors.arrays import Floats


def explain_path(
    snapshot: Snapshot, query: Floats, k: int, tree: Filter | None, exact: bool
) -> dict[str, Any]:
    """Return what `snapshot.search` does for this query (d,), part by part."""
    if isinstance(snapshot, StoreSnapshot):
        return _explain_store(snapshot, k, tree, exact)
    parts = [_explain_part(part, query, k, tree, exact) for part in snapshot.parts]
    delta = snapshot.delta
    if delta.count:
        live = delta.live if tree is None else delta.live & delta.select(tree)
        rows = int(np.count_nonzero(live))
        parts.append({"part": "delta", "path": "exact", "rows": rows, "scored": rows})
    told: dict[str, Any] = {"k": k, "parts": parts}
    if all(part["path"] == "exact" for part in parts):
        return told | {"recall": {"image": 1.0, "text": 1.0}}
    if any(part.get("filtered") for part in parts):  # tuned by filters like it, not measured
        return told | {"recall": {"image": None, "text": None}, "tuned_to": FILTERED_TARGET}
    return told | {"recall": measured_recall(snapshot)}


def _explain_store(
    snapshot: StoreSnapshot, k: int, tree: Filter | None, exact: bool
) -> dict[str, Any]:
    """Return what is known of a search that a store runs: a filter may make it compare all."""
    effort = snapshot.effort(exact)
    part = {"part": snapshot.store.label, "path": "exact", "rows": snapshot.live_count}
    if effort is None:
        return {"k": k, "parts": [part], "recall": {"image": 1.0, "text": 1.0}}
    recall = measured_recall(snapshot) if tree is None else {"image": None, "text": None}
    return {"k": k, "parts": [part | {"path": "index", "effort": effort}], "recall": recall}


def _explain_part(
    part: SegmentView, query: Floats, k: int, tree: Filter | None, exact: bool
) -> dict[str, Any]:
    allowed, count = part.allowed(tree)
    told: dict[str, Any] = {"part": part.segment.name, "rows": count}
    plan, filtered = None, tree is not None or part.is_stale
    if part.ann_index is not None and part.asks_index(count, exact):
        plan = part.ann_index.plan(query[None], min(k, count), allowed, filtered=filtered)
    if plan is None or part.ann_index is None:
        return {**told, **_why_exact(part), "path": "exact", "scored": count}
    params, lists = plan
    told |= {"path": "index", "index": part.ann_index.row.kind, "filtered": filtered}
    told["reranked"] = min(max(min(k, count), TUNED_K) * params.expansion, len(part.segment))
    if lists:
        told |= {"lists": lists, "probed": min(params.probe, lists)}
    elif params.probe:
        told["visited"] = max(params.probe, told["reranked"])
    return told


def _why_exact(part: SegmentView) -> dict[str, Any]:
    """Return why the index of a part cannot be used, if it has one that cannot."""
    index = part.ann_index
    reason = None if index is None else index.damage or index.obstacle
    return {} if reason is None else {"because": reason}
