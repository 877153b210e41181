"""Chooses the cheapest dials that reach a recall, on every modality of query apart.

Image queries resemble the rows and text queries do not: an index tuned on images alone reports
0.999 and delivers 0.83 to text. So the worst modality decides, on the lower confidence bound over
one half of the sample; what is reported was measured on the other half, which chose nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.arrays import Floats, Mask, Rows
from twinlens.index.candidates import TUNED_K, Candidates, Dials
from twinlens.index.exact import top_k
from twinlens.index.filtered_dials import FilteredDials

DEFAULT_TARGET = 0.95
FILTERED_TARGET = 0.99
FILTERED_SHARES = (0.5, 0.1, 0.02)  # of rows that a filter keeps; fewer are searched exactly
FILTERED_QUERIES = 400  # a modality
CONFIDENCE_Z = 1.645  # one-sided 95 %
TIMED_QUERIES = 24
QUERY_BLOCK = 64


@dataclass(frozen=True)
class Sample:
    """Queries of one modality, with their true answers among the rows of the index."""

    queries: Floats
    truth: Rows  # (n, TUNED_K)
    own: Rows | None = None  # the row that each query is a copy of: never counts as an answer

    def half(self, which: int) -> Sample:
        """Return every second query: halves 0 and 1 have none in common."""
        own = None if self.own is None else self.own[which::2]
        return Sample(self.queries[which::2], self.truth[which::2], own)


@dataclass(frozen=True)
class Recall:
    """A measured recall with its two-sided confidence interval."""

    value: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True)
class Tuning:
    """Dials, and what they deliver by modality; `filtered` says which to use under a filter."""

    dials: Dials
    target: float
    recall: dict[str, Recall]
    milliseconds: float  # thread CPU time of one query
    filtered: tuple[FilteredDials, ...] = ()


def true_sample(
    queries: Floats, rows: npt.NDArray[Any], own: Rows | None = None, live: Mask | None = None
) -> Sample:
    """Find the true answers of queries by exact search."""
    _, places = top_k(queries, rows, TUNED_K + (own is not None), live)
    return Sample(queries, places if own is None else _without(places, own), own)


def tune(
    index: Candidates,
    rows: npt.NDArray[Any],
    samples: Mapping[str, Sample],
    target: float = DEFAULT_TARGET,
    *,
    fitted: bool = False,
) -> Tuning | None:
    """Return the cheapest dials that reach `target` for every modality, or None if none do.

    `fitted` says that the index was shaped by `fitting_part` of the samples: those queries do not
    choose, since it serves them better than any others.
    """
    choosing = {name: one.half(0) for name, one in samples.items()}
    if fitted:
        choosing = {name: one.half(1) for name, one in choosing.items()}
    search = _Search(index, rows, choosing)
    chosen = search.cheapest(target)
    if chosen is None:
        return None
    milliseconds, dials = chosen
    recall = {name: recall_of(index, one.half(1), dials) for name, one in samples.items()}
    filtered = tuple(_tune_filters(search, max(target, FILTERED_TARGET)))
    return Tuning(dials, target, recall, milliseconds, filtered)


def _tune_filters(search: _Search, target: float) -> Iterator[FilteredDials]:
    """Yield the cheapest dials by the share of rows that a filter keeps, from all to few.

    Under a filter the neighbours lie farther apart, by how much only a measurement tells: each
    share is tuned on answers that lie among rows drawn for it.
    """
    found = search.cheapest(target)
    yield FilteredDials(1.0, found[1] if found else None)
    for share in FILTERED_SHARES:
        # What a wider filter needs, a narrower one needs at least.
        found = search.under(share, found[1].probe if found else 0).cheapest(target)
        yield FilteredDials(share, found[1] if found else None)


def fitting_part(sample: Sample) -> Sample:
    """Return the queries that may shape an index: they neither choose nor report."""
    return sample.half(0).half(0)


def recall_of(index: Candidates, sample: Sample, dials: Dials) -> Recall:
    """Measure what these dials deliver on a sample."""
    return measure(_shares(index, sample, dials.probe, (dials.expansion,))[:, 0])


def measure(shares: npt.NDArray[np.float64], z: float = 1.96) -> Recall:
    """Return the mean of each query's recall, with Wilson's interval.

    The answers of one query are found or missed together, so they are not independent: the
    interval counts as many trials as would give the variance between queries that was seen.
    """
    value = float(np.mean(shares))
    trials = _trials(shares)
    low, high = wilson(value, trials, z)
    return Recall(value, low, high, len(shares))


def wilson(share: float, trials: float, z: float) -> tuple[float, float]:
    """Return Wilson's confidence interval of a share."""
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _trials(shares: npt.NDArray[np.float64]) -> float:
    """Return the number of independent trials that the spread of the shares amounts to."""
    count, value = len(shares), float(np.mean(shares))
    spread = float(np.var(shares))
    if spread == 0 or value in (0, 1):
        return float(count)
    return float(np.clip(value * (1 - value) * count / spread, count, count * TUNED_K))


class _Search:
    """Recall over the grid of dials; one pass at a probe tells it for every expansion."""

    def __init__(
        self,
        index: Candidates,
        rows: npt.NDArray[Any],
        samples: Mapping[str, Sample],
        allowed: Mask | None = None,
        least: int = 0,
    ) -> None:
        self._index = index
        self._rows = rows
        self._samples = samples
        self._allowed = allowed
        self._probes = tuple(probe for probe in index.probes if probe >= least)
        self._known: dict[int, dict[int, float]] = {}

    def under(self, share: float, least: int) -> _Search:
        """Return the search among a drawn share of the rows, from the probe `least` on."""
        allowed = np.random.default_rng(2).random(len(self._rows)) < share
        samples = {
            name: true_sample(
                one.queries[:FILTERED_QUERIES],
                self._rows,
                None if one.own is None else one.own[:FILTERED_QUERIES],
                allowed,
            )
            for name, one in self._samples.items()
        }
        return _Search(self._index, self._rows, samples, allowed, least)

    def cheapest(self, target: float) -> tuple[float, Dials] | None:
        """Return the dials that reach the target soonest, after their milliseconds."""
        timed = [(self._time(dials), dials) for dials in self._reaching(target)]
        return min(timed, key=lambda one: one[0], default=None)

    def _reaching(self, target: float) -> list[Dials]:
        """Return, for each expansion that can, the smallest probe that reaches the target."""
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
                found.append(Dials(self._probes[low], expansion))
        return found

    def _bound(self, probe: int, expansion: int) -> float:
        """Return the lower confidence bound of the worst modality."""
        if probe not in self._known:
            expansions = self._index.kind.expansions
            shares = [
                _shares(self._index, one, probe, expansions, self._allowed)
                for one in self._samples.values()
            ]
            self._known[probe] = {
                expansion: min(_lower(one[:, place]) for one in shares)
                for place, expansion in enumerate(expansions)
            }
        return self._known[probe][expansion]

    def _time(self, dials: Dials) -> float:
        """Return the median of thread CPU milliseconds of a query."""
        spent = []
        for query in next(iter(self._samples.values())).queries[:TIMED_QUERIES]:
            start = time.thread_time()
            self._index.find(query[None], self._rows, TUNED_K, dials, self._allowed)
            spent.append(time.thread_time() - start)
        return 1000 * float(np.median(spent))


def _lower(shares: npt.NDArray[np.float64]) -> float:
    return wilson(float(np.mean(shares)), _trials(shares), CONFIDENCE_Z)[0]


def _shares(
    index: Candidates,
    sample: Sample,
    probe: int,
    expansions: tuple[int, ...],
    allowed: Mask | None = None,
) -> npt.NDArray[np.float64]:
    """Return the share of true answers found, by query and expansion: (n, expansions).

    Candidates are scored by their full rows, so a true answer is found exactly if it is proposed.
    """
    extra = int(sample.own is not None)
    count = min(TUNED_K * expansions[-1], index.index.ntotal - extra)
    shares = np.empty((len(sample.queries), len(expansions)))
    for start in range(0, len(sample.queries), QUERY_BLOCK):
        part = slice(start, start + QUERY_BLOCK)
        _, places = index.propose(sample.queries[part], count + extra, probe, allowed)
        if sample.own is not None:
            places = _without(places, sample.own[part])
        truth = sample.truth[part]
        there = np.maximum(1, (truth >= 0).sum(axis=1))
        known = (places[:, :, None] == truth[:, None, :]) & (truth[:, None, :] >= 0)
        found = np.cumsum(known.any(axis=2), axis=1)
        for place, expansion in enumerate(expansions):
            shares[part, place] = found[:, min(TUNED_K * expansion, count) - 1] / there
    return shares


def _without(places: Rows, own: Rows) -> Rows:
    """Drop each query's own row, or the last place where it is not among them."""
    mine = places == own[:, None]
    mine[~mine.any(axis=1), -1] = True
    kept: Rows = places[~mine].reshape(len(places), -1)
    return kept
