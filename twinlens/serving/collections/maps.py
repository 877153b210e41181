"""The maps of a collection: principal components at once, a layout of neighbours when it is ready.

One layout is computed at a time, in the background, from one state of the collection. It is kept
until a tenth of the items has changed, so that small changes do not start it again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twinlens.index.collection import Collection
from twinlens.index.gallery.neighbour_layout import lay_out
from twinlens.index.gallery.projection_2d import Plane, project_to_plane, read_rows
from twinlens.index.upkeep.clusters import Clustering, cluster_rows, name_clusters
from twinlens.index.vectors.arrays import Floats

PCA, NEIGHBOURS = "pca", "neighbours"
MOST_CLUSTERS = 24
FEWEST = 60  # items; a smaller map has no clusters
CHANGED = 0.1  # of the items, after which a layout is made anew
WORDS = 2  # that name a cluster

Namer = Callable[[Clustering, Floats], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class MapCluster:
    """A group of items on the map: the words that describe it, its size and its centre."""

    names: tuple[str, ...]
    count: int
    at: tuple[float, float]


@dataclass(frozen=True)
class CollectionMap:
    """Points in a plane with their clusters, computed from one state of a collection."""

    method: str
    plane: Plane
    epoch: int
    clusters: tuple[MapCluster, ...] = ()
    labels: tuple[int, ...] = ()  # the cluster of each point


class MapCache:
    """The maps of one collection by the number of points asked for."""

    def __init__(self) -> None:
        self._plain: dict[int, CollectionMap] = {}
        self._refined: dict[int, CollectionMap] = {}
        self.refining: set[int] = set()  # numbers of points whose layout is being made

    def project(self, collection: Collection, most: int) -> CollectionMap:
        """Return the map of principal components, made once for each state."""
        epoch = collection.head.epoch
        kept = self._plain.get(most)
        if kept is None or kept.epoch != epoch:
            kept = CollectionMap(PCA, project_to_plane(collection, most), epoch)
            self._plain = {most: kept}  # one at a time: 100,000 points are megabytes
        return kept

    def has_projected(self, collection: Collection, most: int) -> bool:
        """Say whether the map of principal components is made for the present state."""
        kept = self._plain.get(most)
        return kept is not None and kept.epoch == collection.head.epoch

    def find_refined(self, collection: Collection, most: int) -> CollectionMap | None:
        """Return the layout of neighbours, or None if a tenth of the items has changed since."""
        kept = self._refined.get(most)
        if kept is None:
            return None
        grown = abs(collection.snapshot().live_count - kept.plane.total)
        return kept if grown <= CHANGED * max(1, kept.plane.total) else None

    def refine(
        self, collection: Collection, most: int, name: Namer | None, go_on: Callable[[], bool]
    ) -> CollectionMap:
        """Make the layout of neighbours and its clusters; slow."""
        plain = self.project(collection, most)
        snapshot = collection.snapshot()
        rids, rows = read_rows(snapshot, plain.plane.rids)
        if len(rids) != len(plain.plane.rids):  # deleted meanwhile: the next request begins anew
            return plain
        points = lay_out(rows, plain.plane.points, go_on=go_on)
        plane = replace(plain.plane, points=points)
        clusters, labels = _cluster(rows, points, name)
        made = CollectionMap(NEIGHBOURS, plane, plain.epoch, clusters, labels)
        self._refined = {most: made}
        return made


def score_points(collection: Collection, shown: CollectionMap, row: Floats) -> list[float | None]:
    """Return the cosine of each point of a map to an embedding; None: deleted since.

    Points are looked up by their ids: a change of metadata gives an item another row number.
    """
    items = collection.catalog.by_id(shown.plane.ids)
    places = np.array(sorted(item.rid for item in items.values()), np.int64)
    rids, rows = read_rows(collection.snapshot(), places)
    known = dict(zip(rids.tolist(), (rows @ row).tolist(), strict=True))
    scores = (known.get(items[id].rid) if id in items else None for id in shown.plane.ids)
    return [None if score is None else round(score, 4) for score in scores]


def read_values(collection: Collection, shown: CollectionMap, field: str) -> list[Any]:
    """Return the value of a field for each point of a map; None where it has none."""
    items = collection.catalog.by_id(shown.plane.ids)
    values = (items[id].metadata.get(field) if id in items else None for id in shown.plane.ids)
    return [value if isinstance(value, str | int | float | bool) else None for value in values]


def _cluster(
    rows: Floats, points: Floats, name: Namer | None
) -> tuple[tuple[MapCluster, ...], tuple[int, ...]]:
    """Return the groups of the rows, each at the median of its points, and each row's group."""
    if len(rows) < FEWEST:
        return (), ()
    count = min(MOST_CLUSTERS, round(math.sqrt(len(rows) / 4)))
    found = cluster_rows(rows.astype(np.float16), count)
    names = [()] * len(found.centres) if name is None else name(found, rows)
    used = Counter(word for words in names for word in words[:1])
    clusters = []
    for number, words in enumerate(names):
        members = found.members(number)
        middle = np.median(points[members], axis=0) if len(members) else np.zeros(2)
        chosen = tuple(words[: 1 if used[words[0]] == 1 else WORDS]) if words else ()
        clusters.append(MapCluster(chosen, len(members), (float(middle[0]), float(middle[1]))))
    return tuple(clusters), tuple(found.labels.tolist())


def namer_of(words: Sequence[str], embeddings: Floats) -> Namer:
    """Return a function that names clusters by the nearest of these words."""

    def name(found: Clustering, rows: Floats) -> list[list[str]]:
        return name_clusters(found, rows.astype(np.float16), words, embeddings, WORDS)

    return name
