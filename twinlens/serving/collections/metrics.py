"""Prometheus metrics of collections, labelled by name; names need the write scope to create."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from prometheus_client.metrics_core import Metric

from twinlens.errors import NotFoundError
from twinlens.index.stats import measured_recall
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.observe.metrics import counter, gauge


def read_metrics(store: CollectionStore) -> Iterable[Metric]:
    """Yield counts, recall, and the work behind thumbnails and maps."""
    served = []
    for one in store.all():
        with suppress(NotFoundError):  # it is being removed
            served.append((one.name, one, one.snapshot()))
    yield gauge(
        "twinlens_collection_items",
        "Items that a search can return",
        ["collection"],
        [([name], snapshot.live_count) for name, _, snapshot in served],
    )
    yield gauge(
        "twinlens_collection_recall",
        "Recall@10 measured on held-out queries not used for tuning",
        ["collection", "modality"],
        [
            ([name, modality], value)
            for name, _, snapshot in served
            for modality, value in measured_recall(snapshot).items()
            if value is not None
        ],
    )
    yield counter(
        "twinlens_thumbnails",
        "Thumbnails requested",
        ["collection", "result"],
        [
            ([name, result], value)
            for name, one, _ in served
            for result, value in (("kept", one.thumbnails.hits), ("made", one.thumbnails.created))
        ],
    )
    yield counter(
        "twinlens_collection_maps",
        "Maps computed, once per state of the collection",
        ["collection"],
        [([name], one.maps.count) for name, one, _ in served],
    )
    yield counter(
        "twinlens_collection_map_seconds",
        "Seconds spent computing maps",
        ["collection"],
        [([name], one.maps.seconds) for name, one, _ in served],
    )
