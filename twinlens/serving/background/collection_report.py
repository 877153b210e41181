"""Reports on what a collection holds, as jobs: copies, clusters, a diverse subset, outliers.

They read all rows of one snapshot beside searches and writes, and change nothing. A report that was
cut off by the end of the server begins again at its next start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twinlens.index.collection import Collection
from twinlens.index.upkeep.clusters import Clustering, cluster_rows, name_clusters, read_words
from twinlens.index.upkeep.copies import CopyGroup, find_copies
from twinlens.index.upkeep.live_rows import read_live_rows
from twinlens.index.upkeep.outliers import find_disagreements, find_outliers
from twinlens.index.upkeep.selection import select_diverse
from twinlens.index.vectors.arrays import Halves, Rids
from twinlens.serving.background.collection_maintenance import embed_texts
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.jobs import Job
from twinlens.serving.service import Service

KIND = "report"
COPIES, CLUSTERS, SUBSET, OUTLIERS = "copies", "clusters", "subset", "outliers"
REPORTS = (COPIES, CLUSTERS, SUBSET, OUTLIERS)
COUNTS = {COPIES: 1000, SUBSET: 100, OUTLIERS: 20}  # of clusters: chosen by the number of items
MOST_COUNTED = 10_000
MOST_CLUSTERS = 1000
SHOWN = 20  # items of a cluster
NAMES = 3  # words that name a cluster


@dataclass(frozen=True)
class ReportRequest:
    """What to find; `similarity` is for copies, `field` for labels that neighbours disagree with.

    `count` is the most groups, clusters or items.
    """

    find: str
    count: int | None = None
    similarity: float | None = None
    field: str | None = None


class ReportJobs:
    """Starts and runs the reports on a server's collections."""

    def __init__(self, service: Service, store: CollectionStore) -> None:
        self._service = service
        self._store = store
        service.jobs.register(KIND, self.run)

    def start(self, served: ServedCollection, asked: ReportRequest) -> Job:
        """Start a report on one collection."""
        spec = {"name": served.name, **asdict(asked)}
        return self._service.jobs.start(KIND, spec, total=1)

    async def run(self, job: Job) -> dict[str, Any]:
        """Return the report that the job asks for."""
        spec = dict(job.spec)
        served, asked = self._store.find(spec.pop("name")), ReportRequest(**spec)
        job.stage = f"looking for {asked.find}"
        if asked.find == CLUSTERS:
            found = await self._cluster(served, asked.count)
        else:
            found = await served.examine(lambda collection: _READERS[asked.find](collection, asked))
        job.stage = None
        return {"collection": served.name, "find": asked.find, **found}

    async def _cluster(self, served: ServedCollection, count: int | None) -> dict[str, Any]:
        rids, rows = await served.examine(lambda one: read_live_rows(one.snapshot()))
        if not len(rids):
            return {"clusters": []}
        chosen = count or max(1, min(100, round(math.sqrt(len(rows) / 2))))
        found = await served.examine(lambda _: cluster_rows(rows, min(chosen, len(rows))))
        names = await self._name(served, found, rows)
        return await served.examine(lambda one: _show_clusters(one, found, rids, names))

    async def _name(
        self, served: ServedCollection, found: Clustering, rows: Halves
    ) -> list[list[str]]:
        """Return the nearest words of each cluster; none where no served model embeds texts."""
        revision = served.snapshot().head.bundle_revision
        models = [
            model.name
            for model in self._service.registry.models()
            if model.revision == revision and model.texts is not None
        ]
        if not models:
            return [[]] * len(found.centres)
        words = await served.examine(lambda one: read_words(one.catalog))
        with self._service.registry.lease(models[0]) as model:
            embedded = await embed_texts(model, words)
        return await served.examine(lambda _: name_clusters(found, rows, words, embedded, NAMES))


def _show_clusters(
    collection: Collection, found: Clustering, rids: Rids, names: list[list[str]]
) -> dict[str, Any]:
    clusters = []
    for number, words in enumerate(names):
        members = found.members(number)
        ids = _ids_of(collection, rids[members[:SHOWN]].tolist())
        clusters.append({"names": words, "count": len(members), "ids": ids})
    return {"clusters": clusters}


def _find_copies(collection: Collection, asked: ReportRequest) -> dict[str, Any]:
    groups = find_copies(collection, similarity=asked.similarity, trusts_paths=False)
    most = asked.count or COUNTS[COPIES]
    copies = sum(len(group.copies) for group in groups)
    shown = [_show_group(one) for one in groups[:most]]
    return {"groups": shown, "group_count": len(groups), "copy_count": copies}


def _show_group(group: CopyGroup) -> dict[str, Any]:
    copies = [
        {"id": one.item.id, "kind": one.kind, "cosine": round(one.cosine, 6)}
        for one in group.copies
    ]
    return {"keep": group.kept.id, "copies": copies}


def _select(collection: Collection, asked: ReportRequest) -> dict[str, Any]:
    rids, rows = read_live_rows(collection.snapshot())
    chosen, covered = select_diverse(rows, asked.count or COUNTS[SUBSET])
    ids = _ids_of(collection, rids[np.asarray(chosen, np.int64)].tolist())
    return {"ids": ids, "covered": round(covered, 6)}


def _find_outliers(collection: Collection, asked: ReportRequest) -> dict[str, Any]:
    count = asked.count or COUNTS[OUTLIERS]
    if asked.field is None:
        far = find_outliers(collection, count)
        return {"items": [{"id": one.item.id, "cosine": round(one.cosine, 6)} for one in far]}
    return {
        "items": [
            {"id": one.item.id, "label": one.label, "expected": one.expected, "share": one.share}
            for one in find_disagreements(collection, asked.field, count)
        ]
    }


def _ids_of(collection: Collection, rids: list[int]) -> list[str]:
    items = collection.catalog.by_rid(rids)
    return [items[rid].id for rid in rids if rid in items]


_READERS: dict[str, Callable[[Collection, ReportRequest], dict[str, Any]]] = {
    COPIES: _find_copies,
    SUBSET: _select,
    OUTLIERS: _find_outliers,
}
