"""Chooses the cheapest parameters that reach a recall for every modality of query.

Image queries resemble the rows and text queries do not: an index tuned on images alone reports
0.999 and delivers 0.83 for text. So the worst modality decides, by the lower confidence bound over
one half of the sample; the reported recall is measured on the other half, not used for tuning.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.ann.adverse_filters import widen
from twinlens.index.ann.candidates import TUNED_K, Candidates, IndexParams
from twinlens.index.ann.filtered_params import FilteredParams
from twinlens.index.ann.recall import (
    STATED_CONFIDENCE,
    Recall,
    Sample,
    find_shares,
    lower_bound,
    recall_of,
    true_sample,
)
from twinlens.index.vectors.arrays import Mask

DEFAULT_TARGET = 0.95
FILTERED_TARGET = 0.99
FILTERED_SHARES = (0.5, 0.1, 0.02)  # of rows kept by a filter; narrower ones are searched exactly
FILTERED_QUERIES = 400  # per modality
TIMED_QUERIES = 24


@dataclass(frozen=True)
class Tuning:
    """Parameters and their recall by modality; `filtered` has those for filtered searches."""

    params: IndexParams
    target: float
    recall: dict[str, Recall]
    milliseconds: float  # thread CPU time of one query
    filtered: tuple[FilteredParams, ...] = ()
    confidence: float = STATED_CONFIDENCE  # of the intervals of `recall`


def tune(
    index: Candidates,
    rows: npt.NDArray[Any],
    samples: Mapping[str, Sample],
    target: float = DEFAULT_TARGET,
    *,
    fitted: bool = False,
    live: Mask | None = None,
) -> Tuning | None:
    """Return the cheapest parameters that reach `target` for every modality, or None if none do.

    `live` flags the rows that may be returned (None: all); the samples' answers are among them.
    `fitted` means that the index was fitted to `fitting_part` of the samples: those queries are not
    used to choose, since their recall is better than that of other queries.
    """
    choosing = {name: one.half(0) for name, one in samples.items()}
    if fitted:
        choosing = {name: one.half(1) for name, one in choosing.items()}
    search = _Search(index, rows, choosing, live)
    chosen = search.cheapest(target)
    if chosen is None:
        return None
    milliseconds, params = chosen
    recall = {name: recall_of(index, one.half(1), params, live) for name, one in samples.items()}
    filtered = tuple(_tune_filters(search, max(target, FILTERED_TARGET)))
    return Tuning(params, target, recall, milliseconds, filtered)


def _tune_filters(search: _Search, target: float) -> Iterator[FilteredParams]:
    """Yield the cheapest parameters by the share of rows that a filter keeps, from all to few.

    Under a filter the neighbours are farther apart, and only a measurement shows by how much: each
    share is tuned on a random set of allowed rows, then raised until it also reaches the target on
    rows far from the queries.
    """
    found = search.with_filter().cheapest(target)
    yield FilteredParams(1.0, found[1] if found else None)
    for share in FILTERED_SHARES:
        # A narrower filter needs at least the probe of a wider one.
        found = search.under(share, found[1].probe if found else 0).cheapest(target)
        yield FilteredParams(share, search.widen(share, found[1], target) if found else None)


class _Search:
    """Recall over the grid of parameters; one pass per probe measures every expansion."""

    def __init__(
        self,
        index: Candidates,
        rows: npt.NDArray[Any],
        samples: Mapping[str, Sample],
        allowed: Mask | None = None,
        least: int = 0,
        *,
        filtered: bool = False,
    ) -> None:
        self._index = index
        self._rows = rows
        self._samples = samples
        self._allowed = allowed
        self._filtered = filtered
        self._probes = tuple(probe for probe in index.probes if probe >= least)
        self._known: dict[int, dict[int, float]] = {}

    def with_filter(self) -> _Search:
        """Return a search through what serves filters, if that is another set of codes."""
        if self._index.codes is None:
            return self
        return _Search(self._index, self._rows, self._samples, self._allowed, filtered=True)

    def under(self, share: float, least: int) -> _Search:
        """Return a search among a random share of the rows, with probes from `least` up."""
        allowed = np.random.default_rng(2).random(len(self._rows)) < share
        if self._allowed is not None:
            allowed &= self._allowed
        samples = {
            name: true_sample(one.queries, self._rows, one.own, allowed)
            for name, one in self._few().items()
        }
        return _Search(self._index, self._rows, samples, allowed, least, filtered=True)

    def widen(self, share: float, params: IndexParams, target: float) -> IndexParams | None:
        """Return these parameters, raised until they also suffice for adverse filters."""
        return widen(self._index, self._rows, self._few(), share, params, target, self._allowed)

    def _few(self) -> dict[str, Sample]:
        return {name: one.part(slice(FILTERED_QUERIES)) for name, one in self._samples.items()}

    def cheapest(self, target: float) -> tuple[float, IndexParams] | None:
        """Return the fastest parameters that reach the target, with their milliseconds."""
        timed = [(self._time(params), params) for params in self._reaching(target)]
        return min(timed, key=lambda one: one[0], default=None)

    def _reaching(self, target: float) -> list[IndexParams]:
        """Return the smallest probe that reaches the target, for each expansion that can."""
        found = []
        for expansion in self._index.kind.expansions:
            low, high = 0, len(self._probes)
            while low < high:
                middle = (low + high) // 2
                if self._bound(self._probes[middle], expansion) >= target:
                    high = middle
                else:
                    low = middle + 1
            if low < len(self._probes):
                found.append(IndexParams(self._probes[low], expansion))
        return found

    def _bound(self, probe: int, expansion: int) -> float:
        """Return the lower confidence bound of the worst modality."""
        if probe not in self._known:
            expansions = self._index.kind.expansions
            shares = [
                find_shares(
                    self._index, one, probe, expansions, self._allowed, filtered=self._filtered
                )
                for one in self._samples.values()
            ]
            self._known[probe] = {
                expansion: min(lower_bound(one[:, place]) for one in shares)
                for place, expansion in enumerate(expansions)
            }
        return self._known[probe][expansion]

    def _time(self, params: IndexParams) -> float:
        """Return the median thread CPU milliseconds of a query."""
        spent = []
        for query in next(iter(self._samples.values())).queries[:TIMED_QUERIES]:
            start = time.thread_time()
            self._index.find(
                query[None], self._rows, TUNED_K, params, self._allowed, filtered=self._filtered
            )
            spent.append(time.thread_time() - start)
        return 1000 * float(np.median(spent))
