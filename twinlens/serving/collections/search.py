"""A search of a served collection: its parameters, and how a batch of equal ones is run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinlens.index.collection import Collection
from twinlens.index.searching.request import SearchAnswer, SearchOptions
from twinlens.index.searching.searching import search_collection


@dataclass(frozen=True)
class SearchParams(SearchOptions):
    """The parameters of a search besides its embedding; searches with equal ones share a batch."""

    group: float | None = None


def run_search(
    collection: Collection, params: SearchParams, rows: NDArray[np.float32]
) -> list[SearchAnswer]:
    """Return the answer to each row; a filter field that no item has is an error, not []."""
    found = _search_rows(collection, params, rows)
    if isinstance(params.filter, str) and not any(answer.hits for answer in found):
        collection.require_fields(params.filter)
    return found


def _search_rows(
    collection: Collection, params: SearchParams, rows: NDArray[np.float32]
) -> list[SearchAnswer]:
    if params.group is not None:
        return [_search_grouped(collection, params, row, params.group) for row in rows]
    if not params.is_plain:
        return [search_collection(collection, row, params) for row in rows]
    found = collection.search(
        rows,
        params.k,
        filter=params.filter,
        threshold=params.threshold,
        exact=params.exact,
        revision=params.revision,
    )
    return [SearchAnswer(tuple(hits)) for hits in found]


def _search_grouped(
    collection: Collection, params: SearchParams, row: NDArray[np.float32], similarity: float
) -> SearchAnswer:
    hits = collection.search_grouped(
        row,
        params.k,
        similarity=similarity,
        filter=params.filter,
        threshold=params.threshold,
        revision=params.revision,
    )
    return SearchAnswer(tuple(hits))
