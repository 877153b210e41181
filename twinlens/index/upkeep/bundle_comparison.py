"""Compares the answers of two bundles on one collection, before one takes the other's place.

Queries are texts, those that the collection was tuned on or given ones, and images of the
collection. Both sides are searched exactly, so that the bundles are compared and not their indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from twinlens.index.collection import Collection
from twinlens.index.storage.captions import CAPTION_FIELDS, texts_in
from twinlens.index.storage.catalog import Catalog
from twinlens.index.upkeep.embedding_set import BundleEmbeddings
from twinlens.index.upkeep.reembedding import list_rids
from twinlens.index.vectors.arrays import Floats, Rids, as_float32
from twinlens.index.vectors.exact import best, top_k

DEPTH = 10
IMAGE_QUERIES = 200


class TextEncoder(Protocol):
    """The method of an encoder that embeds queries."""

    def embed_texts(
        self, texts: Sequence[str], /, *, input_type: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Return unit rows (n, d)."""


@dataclass(frozen=True)
class BundleComparison:
    """How far two bundles agree, and how often each finds the item that a caption describes.

    Agreement is the share of the ten best hits that both have. `found_before` and `found_after`
    are the share of captions whose own item is among the ten best. None: there was no such query.
    """

    texts: int
    text_agreement: float | None
    images: int
    image_agreement: float | None
    captions: int
    found_before: float | None
    found_after: float | None


def compare_bundles(
    collection: Collection,
    staged: BundleEmbeddings,
    before: TextEncoder | None,
    after: TextEncoder | None,
    texts: Sequence[str],
) -> BundleComparison:
    """Return the comparison; without both text encoders, of images alone."""
    sides = _Sides(collection, staged)
    images = sides.image_hits()
    hits: tuple[Rids, Rids] | None = None
    if before is not None and after is not None and texts:
        rows = [one.embed_texts(list(texts), input_type="query") for one in (before, after)]
        hits = sides.hits(rows[0], rows[1])
    owners = _find_owners(collection.catalog, texts) if hits else {}
    asked = [n for n, text in enumerate(texts) if owners.get(text)]
    found = [
        _mean([bool(owners[texts[n]] & set(side[n].tolist())) for n in asked])
        for side in hits or ()
    ] or [None, None]
    return BundleComparison(
        len(texts) if hits else 0,
        _agreement(*hits) if hits else None,
        len(images[0]),
        _agreement(*images),
        len(asked),
        found[0],
        found[1],
    )


class _Sides:
    """Exact search of the collection and of a staged set, over the items that both have."""

    def __init__(self, collection: Collection, staged: BundleEmbeddings) -> None:
        self._snapshot = collection.snapshot()
        self._segments = staged.open_segments()
        self._live = list_rids(collection.catalog)

    def hits(self, before: Floats, after: Floats, depth: int = DEPTH) -> tuple[Rids, Rids]:
        """Return the rids (n, depth) that each bundle finds."""
        _, first = self._snapshot.search(as_float32(before), depth, exact=True)
        return first, self._search_staged(as_float32(after), depth)

    def image_hits(self) -> tuple[Rids, Rids]:
        """Return what some items of the collection find besides themselves."""
        chosen: list[int] = []
        rows: list[tuple[Floats, Floats]] = []
        for segment in self._segments:
            step = max(1, len(segment) * len(self._segments) // IMAGE_QUERIES)
            for place in range(0, len(segment), step):
                rid = int(segment.rids[place])
                old = self._snapshot.embedding(rid)
                if old is not None:
                    chosen.append(rid)
                    rows.append((old, as_float32(segment.embeddings[place])))
        if not rows:
            return np.empty((0, DEPTH), np.int64), np.empty((0, DEPTH), np.int64)
        old_rows, new_rows = (np.stack(side) for side in zip(*rows, strict=True))
        found = self.hits(old_rows, new_rows, DEPTH + 1)
        return _without_self(found[0], chosen), _without_self(found[1], chosen)

    def _search_staged(self, queries: Floats, depth: int) -> Rids:
        scores, rids = [], []
        for segment in self._segments:
            allowed = np.isin(segment.rids, self._live)
            found, places = top_k(queries, segment.embeddings, min(depth, len(segment)), allowed)
            scores.append(found)
            rids.append(np.where(places < 0, -1, segment.rids[np.maximum(places, 0)]))
        if not rids:
            return np.full((len(queries), depth), -1, np.int64)
        return best(np.concatenate(scores, axis=1), np.concatenate(rids, axis=1), depth)[1]


def _without_self(rids: Rids, own: Sequence[int]) -> Rids:
    """Return all but each query's own rid, one column less."""
    kept = [
        [rid for rid in row if rid != mine][:DEPTH]
        for row, mine in zip(rids.tolist(), own, strict=True)
    ]
    return np.asarray(kept, np.int64)


def _agreement(first: Rids, second: Rids) -> float | None:
    """Return the mean share of the hits that both have."""
    shares = []
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        real = {rid for rid in one if rid >= 0}
        if real:
            shares.append(len(real & set(other)) / len(real))
    return _mean(shares)


def _find_owners(catalog: Catalog, texts: Sequence[str]) -> dict[str, set[int]]:
    """Return the items of each text that is a caption."""
    owners: dict[str, set[int]] = {text: set() for text in texts}
    for item in catalog.items():
        for text in texts_in(item.metadata, CAPTION_FIELDS):
            if text in owners:
                owners[text].add(item.rid)
    return owners


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
