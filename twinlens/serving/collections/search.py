"""A search of a served collection: its parameters, and how a batch of equal ones is run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinlens.index.collection import Collection, Hit


@dataclass(frozen=True)
class SearchParams:
    """The parameters of a search besides its embedding; searches with equal ones share a batch."""

    k: int = 10
    filter: str | None = None
    threshold: float | None = None
    group: float | None = None
    exact: bool = False


def run_search(
    collection: Collection, params: SearchParams, rows: NDArray[np.float32]
) -> list[list[Hit]]:
    """Return the hits of each row; a filter field that no item has is an error, not []."""
    found = _search_rows(collection, params, rows)
    if params.filter is not None and not any(found):
        collection.require_fields(params.filter)
    return found


def _search_rows(
    collection: Collection, params: SearchParams, rows: NDArray[np.float32]
) -> list[list[Hit]]:
    if params.group is None:
        return collection.search(
            rows, params.k, filter=params.filter, threshold=params.threshold, exact=params.exact
        )
    return [
        collection.search_grouped(
            row,
            params.k,
            similarity=params.group,
            filter=params.filter,
            threshold=params.threshold,
        )
        for row in rows
    ]
