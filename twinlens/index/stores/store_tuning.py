"""Builds a store's index and sets how thoroughly it is asked, by recall measured in the store.

One half of the queries of each modality chooses the effort, the other half measures what users are
told; true answers are those of comparing all items. What must stay true: no recall is told that
was not measured on this store's own index.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.ann.candidates import TUNED_K
from twinlens.index.ann.recall import Recall, lower_bound, measure
from twinlens.index.storage.records import now
from twinlens.index.stores.store import VectorStore
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.stores.store_snapshot import TUNING_NOTE
from twinlens.index.vectors.arrays import Floats

SAMPLE_QUERIES = 200  # of each modality: comparing all items in a store is dear
BLOCK = 20  # queries a call
FoundRows = list[list[int]]
Shares = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class StoreSample:
    """Queries of one modality; `own` are the items that they were copied from."""

    queries: Floats
    truth: FoundRows
    own: list[int]


def tune_store(
    collection: StoreCollection,
    texts: Floats | None,
    target: float,
    observe: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Build the index, choose its effort, and store and return what was measured."""
    store = collection.store
    observe(f"finding true answers in {store.label}")
    samples = {"image": _draw_images(store)}
    if texts is not None and len(texts):
        samples["text"] = _add_truth(store, texts[:SAMPLE_QUERIES], [])
    observe(f"building the index of {store.label}")
    store.build_index()
    observe("choosing how thoroughly it is asked")
    effort, recall = _choose(store, samples, target)
    tuning = {
        "effort": effort,
        "target": target,
        "recall": {name: dataclasses.asdict(one) for name, one in recall.items()},
        "measured": now(),
    }
    store.write_note(TUNING_NOTE, tuning)
    collection.refresh()
    return tuning


def _choose(
    store: VectorStore, samples: Mapping[str, StoreSample], target: float
) -> tuple[int, dict[str, Recall]]:
    """Return the first effort that reaches the target, else the last, with its recall."""
    found: dict[str, Shares] = {}
    for effort in store.efforts:
        found = {name: _find_shares(store, one, effort) for name, one in samples.items()}
        if all(lower_bound(shares[::2]) >= target for shares in found.values()):
            break
    return effort, {name: measure(shares[1::2]) for name, shares in found.items()}


def _draw_images(store: VectorStore) -> StoreSample:
    rids = store.rids(None)
    count = min(SAMPLE_QUERIES, max(2, len(rids) // 8))
    chosen = np.random.default_rng(0).choice(rids, count, replace=False)
    rows = store.embeddings(chosen.tolist())
    own = [rid for rid in chosen.tolist() if rid in rows]
    return _add_truth(store, np.stack([rows[rid] for rid in own]), own)


def _add_truth(store: VectorStore, queries: Floats, own: list[int]) -> StoreSample:
    return StoreSample(queries, _ask(store, queries, own, None), own)


def _find_shares(store: VectorStore, sample: StoreSample, effort: int) -> Shares:
    """Return the share of true answers found, by query."""
    found = _ask(store, sample.queries, sample.own, effort)
    pairs = zip(found, sample.truth, strict=True)
    return np.array([len(set(a) & set(b)) / max(1, len(b)) for a, b in pairs])


def _ask(store: VectorStore, queries: Floats, own: list[int], effort: int | None) -> FoundRows:
    """Return the numbers of the best items of each query, without the one it was copied from."""
    extra = int(bool(own))
    answers: FoundRows = []
    for start in range(0, len(queries), BLOCK):
        hits = store.search(queries[start : start + BLOCK], TUNED_K + extra, None, effort)
        answers += [[item.rid for item, _ in one] for one in hits]
    without = own or [-1] * len(answers)
    return [
        [rid for rid in one if rid != mine][:TUNED_K]
        for one, mine in zip(answers, without, strict=True)
    ]
