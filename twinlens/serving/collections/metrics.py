"""What Prometheus is told of collections; names are those that a key with the right gave."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from twinlens.index.stats import measured_recall
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.observe.metrics import counter, gauge


def read_metrics(store: CollectionStore) -> Iterable[Metric]:
    """Yield counts, recall, and the work behind thumbnails and maps."""
    held = [(one.name, one, one.collection.snapshot()) for one in store.all()]
    yield gauge(
        "twinlens_collection_items",
        "Items that a search can find",
        ["collection"],
        [([name], snapshot.live_count) for name, _, snapshot in held],
    )
    yield gauge(
        "twinlens_collection_recall",
        "Recall@10 as measured on queries that chose nothing",
        ["collection", "modality"],
        [
            ([name, modality], value)
            for name, _, snapshot in held
            for modality, value in measured_recall(snapshot).items()
            if value is not None
        ],
    )
    yield counter(
        "twinlens_thumbnails",
        "Thumbnails asked for",
        ["collection", "result"],
        [
            ([name, result], value)
            for name, one, _ in held
            for result, value in (("kept", one.thumbnails.kept), ("made", one.thumbnails.made))
        ],
    )
    yield counter(
        "twinlens_collection_maps",
        "Maps computed, each once for a state of the collection",
        ["collection"],
        [([name], one.maps.count) for name, one, _ in held],
    )
    yield counter(
        "twinlens_collection_map_seconds",
        "Seconds spent on computing maps",
        ["collection"],
        [([name], one.maps.seconds) for name, one, _ in held],
    )
