"""Answers a `SearchOptions` from a collection.

Without options it is `Collection.search`. Each option searches deeper and then chooses: hybrid
joins two lists, `one_per` drops all but the best item of a value, `diversity` reorders, the offset
comes last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.errors import CollectionError
from twinlens.index.collection import MAX_K, OPEN_ATTEMPTS, Collection
from twinlens.index.hits import Hit
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.filters import Filter, field_values
from twinlens.index.searching.diversity import diversify
from twinlens.index.searching.explanation import explain_path
from twinlens.index.searching.fusion import fuse
from twinlens.index.searching.request import SearchAnswer, SearchOptions
from twinlens.index.shown_items import show_items
from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.caption_build import match_captions, require_captions
from twinlens.index.storage.records import ShownItem
from twinlens.index.vectors.arrays import Floats, unit_rows

FUSED_DEPTH = 100  # hits of each list that are joined, at least
DIVERSE_DEPTH = 5  # times the wanted hits are candidates for a diverse answer
DEEPER = 4  # times as many hits are looked at where too few items differ


@dataclass(frozen=True)
class _Candidate:
    """A row with its score, its cosine, and what an explanation says of it."""

    rid: int
    score: float
    cosine: float
    reason: dict[str, Any]


def search_collection(
    collection: Collection, embedding: npt.ArrayLike, request: SearchOptions
) -> SearchAnswer:
    """Return the answer to one query embedding."""
    tree = parse_filter(request.filter) if isinstance(request.filter, str) else request.filter
    if request.words is not None:
        require_captions(collection.folder, collection.catalog)
    for _ in range(OPEN_ATTEMPTS):
        snapshot = collection.snapshot_of(request.revision)
        query = unit_rows(embedding, snapshot.head.dim, "query")[0]
        found = _choose(_Search(collection, snapshot, query, tree, request))
        if found is not None:
            return found
        collection.refresh()  # an item was deleted between the search and the lookup
    raise CollectionError(f"{collection.folder}: a row has no item; run `twinlens index verify`")


class _Search:
    """One attempt on one snapshot."""

    def __init__(
        self,
        collection: Collection,
        snapshot: Snapshot,
        query: Floats,
        tree: Filter | None,
        request: SearchOptions,
    ) -> None:
        self.collection = collection
        self.snapshot = snapshot
        self.query = query
        self.tree = tree
        self.request = request

    def candidates(self, depth: int) -> list[_Candidate]:
        """Return the best candidates, best first."""
        scores, rids = self.snapshot.search(
            self.query[None], depth, self.tree, exact=self.request.exact
        )
        vector = [
            (rid, score)
            for rid, score in zip(rids[0].tolist(), scores[0].tolist(), strict=True)
            if rid >= 0
        ]
        if self.request.words is None:
            return self._above(
                _Candidate(rid, score, score, {"vector": _rank(rank, score)})
                for rank, (rid, score) in enumerate(vector, start=1)
            )
        return self._above(self._fused(vector, self._words(self.request.words, depth)))

    def row(self, rid: int) -> Floats | None:
        """Return the embedding of a row."""
        return self.snapshot.embedding(rid)

    def _above(self, candidates: Any) -> list[_Candidate]:
        lowest = self.request.threshold
        return [one for one in candidates if lowest is None or one.cosine >= lowest]

    def _fused(
        self, vector: Sequence[tuple[int, float]], words: Sequence[tuple[int, float]]
    ) -> list[_Candidate]:
        ranks = [
            {rid: _rank(rank, score) for rank, (rid, score) in enumerate(ranked, start=1)}
            for ranked in (vector, words)
        ]
        cosines = dict(vector)
        found = []
        for rid, score in fuse(vector, words, self.request.fusion, self.request.balance):
            cosine = cosines.get(rid)
            if cosine is None:
                row = self.row(rid)
                if row is None:
                    continue  # written after this snapshot
                cosine = float(row @ self.query)
            reason = {"vector": ranks[0].get(rid), "words": ranks[1].get(rid)}
            found.append(_Candidate(rid, score, cosine, reason))
        return found

    def _words(self, text: str, depth: int) -> list[tuple[int, float]]:
        """Return the best matches of the captions that satisfy the filter."""
        if self.tree is None:
            return match_captions(self.collection.catalog, text, depth)
        allowed = {
            rid for rids, chosen in self.snapshot.select(self.tree) for rid in rids[chosen].tolist()
        }
        wanted = depth
        while True:
            found = match_captions(self.collection.catalog, text, wanted)
            kept = [one for one in found if one[0] in allowed][:depth]
            if len(kept) == depth or len(found) < wanted:
                return kept
            wanted *= 8


def _choose(search: _Search) -> SearchAnswer | None:
    """Return the answer, or None if an item is gone."""
    request = search.request
    wanted = request.k + request.offset
    depth = _depth(request)
    while True:
        candidates = search.candidates(depth)
        rids = [one.rid for one in candidates]
        items = show_items(search.snapshot, search.collection.catalog, rids)
        if len(items) < len(candidates):
            return None
        left = _best_of_each(candidates, items, request.one_per)
        if request.one_per is None or len(left) >= wanted or not _can_deepen(search, depth):
            break
        depth = min(MAX_K, depth * DEEPER)
    if request.diversity:
        left = _spread(search, left, wanted)
    left = left[request.offset : wanted]
    path: dict[str, Any] = {}
    if request.explain:
        path = explain_path(search.snapshot, search.query, depth, search.tree, request.exact)
    return SearchAnswer(
        tuple(Hit(items[one.rid].id, one.score, items[one.rid].metadata) for one in left),
        tuple(one.reason for one in left),
        path,
    )


def _depth(request: SearchOptions) -> int:
    wanted = request.k + request.offset
    if request.words is not None:
        wanted = max(wanted, FUSED_DEPTH)
    if request.diversity or request.one_per is not None:
        wanted *= DIVERSE_DEPTH
    return min(MAX_K, wanted)


def _can_deepen(search: _Search, depth: int) -> bool:
    return depth < min(MAX_K, search.snapshot.live_count)


def _best_of_each(
    candidates: Sequence[_Candidate], items: Mapping[int, ShownItem], field: str | None
) -> list[_Candidate]:
    """Return the first candidate of each value of the field; those without it all stay."""
    if field is None:
        return list(candidates)
    seen: set[Any] = set()
    left = []
    for one in candidates:
        values = tuple(field_values(items[one.rid].metadata, field))
        if values and values in seen:
            continue
        seen.add(values)
        left.append(one)
    return left


def _spread(search: _Search, candidates: list[_Candidate], count: int) -> list[_Candidate]:
    """Return candidates in the order of their marginal relevance."""
    found = [(one, search.row(one.rid)) for one in candidates]
    present = [(one, row) for one, row in found if row is not None]
    if not present:
        return []
    rows = np.stack([row for _, row in present])
    relevance = np.array([one.score for one, _ in present], np.float32)
    order = diversify(rows, relevance, count, search.request.diversity)
    return [present[place][0] for place in order]


def _rank(rank: int, score: float) -> dict[str, Any]:
    return {"rank": rank, "score": score}
