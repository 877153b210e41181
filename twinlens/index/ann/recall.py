"""Recall of an index, measured on samples of queries, with confidence intervals.

A true answer is one that exact search returns. Answers of one query are correlated, so a confidence
interval counts fewer trials than answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.ann.candidates import TUNED_K, Candidates, IndexParams
from twinlens.index.vectors.arrays import Floats, Mask, RowNumbers
from twinlens.index.vectors.exact import top_k

MEASURED, STALE, NOT_MEASURED = "measured", "stale, measuring", "not measured"
CONFIDENCE_Z = 1.645  # one-sided 95 %: for choosing parameters
STATED_CONFIDENCE = 0.99  # of the reported interval
STATED_Z = 2.576
QUERY_BLOCK = 64


@dataclass(frozen=True)
class Sample:
    """Queries of one modality, with their true answers among the rows of the index."""

    queries: Floats
    truth: RowNumbers  # (n, TUNED_K)
    own: RowNumbers | None = (
        None  # the row that each query was copied from, excluded from its answers
    )

    def half(self, which: int) -> Sample:
        """Return every second query; halves 0 and 1 are disjoint."""
        return self.part(slice(which, None, 2))

    def part(self, chosen: slice) -> Sample:
        """Return some of the queries."""
        own = None if self.own is None else self.own[chosen]
        return Sample(self.queries[chosen], self.truth[chosen], own)


@dataclass(frozen=True)
class Recall:
    """A measured recall with its two-sided confidence interval."""

    value: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True)
class RecallReport:
    """The recall@10 of a collection for one modality of query.

    `value` and its 99 % interval are None unless `state` is `MEASURED`.
    """

    state: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


def true_sample(
    queries: Floats, rows: npt.NDArray[Any], own: RowNumbers | None = None, live: Mask | None = None
) -> Sample:
    """Return queries with their true answers from exact search."""
    _, places = top_k(queries, rows, TUNED_K + (own is not None), live)
    return Sample(queries, places if own is None else _without(places, own), own)


def withheld_rows(samples: Mapping[str, Sample]) -> RowNumbers:
    """Return the rows that serve as queries: an index must not be trained on them."""
    own = [one.own for one in samples.values() if one.own is not None]
    return np.concatenate(own) if own else np.empty(0, np.int64)


def fitting_part(sample: Sample) -> Sample:
    """Return the queries used to fit a projection: not used to choose or to report."""
    return sample.half(0).half(0)


def recall_of(
    index: Candidates, sample: Sample, params: IndexParams, live: Mask | None = None
) -> Recall:
    """Measure the recall of parameters on a sample."""
    return measure(find_shares(index, sample, params.probe, (params.expansion,), live)[:, 0])


def measure(shares: npt.NDArray[np.float64], z: float = STATED_Z) -> Recall:
    """Return the mean of each query's recall, with Wilson's interval.

    The answers of one query are not independent: the interval uses the number of independent trials
    that would give the observed variance between queries.
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
    """Return the number of independent trials that matches the variance of the shares."""
    count, value = len(shares), float(np.mean(shares))
    spread = float(np.var(shares))
    if spread == 0 or value in (0, 1):
        return float(count)
    return float(np.clip(value * (1 - value) * count / spread, count, count * TUNED_K))


def lower_bound(shares: npt.NDArray[np.float64]) -> float:
    """Return a lower bound of the mean with 95 % confidence.

    If nothing was missed, the variance is zero; the bound then assumes one missed answer.
    """
    if np.all(shares == 1):
        shares = np.append(shares[1:], 1 - 1 / TUNED_K)
    return wilson(float(np.mean(shares)), _trials(shares), CONFIDENCE_Z)[0]


def find_shares(
    index: Candidates,
    sample: Sample,
    probe: int,
    expansions: tuple[int, ...],
    allowed: Mask | None = None,
    *,
    filtered: bool = False,
) -> npt.NDArray[np.float64]:
    """Return the share of true answers found, by query and expansion: (n, expansions).

    Candidates are rescored by their full rows, so a true answer is found if and only if it is
    proposed.
    """
    extra = int(sample.own is not None)
    count = min(TUNED_K * expansions[-1], index.count - extra)
    shares = np.empty((len(sample.queries), len(expansions)))
    for start in range(0, len(sample.queries), QUERY_BLOCK):
        part = slice(start, start + QUERY_BLOCK)
        queries = sample.queries[part]
        places = index.propose(queries, count + extra, probe, allowed, filtered=filtered)
        if sample.own is not None:
            places = _without(places, sample.own[part])
        truth = sample.truth[part]
        there = np.maximum(1, (truth >= 0).sum(axis=1))
        known = (places[:, :, None] == truth[:, None, :]) & (truth[:, None, :] >= 0)
        found = np.cumsum(known.any(axis=2), axis=1)
        for place, expansion in enumerate(expansions):
            shares[part, place] = found[:, min(TUNED_K * expansion, count) - 1] / there
    return shares


def _without(places: RowNumbers, own: RowNumbers) -> RowNumbers:
    """Drop each query's own row, or the last candidate if it is not among them."""
    is_own = places == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    others: RowNumbers = places[~is_own].reshape(len(places), -1)
    return others
