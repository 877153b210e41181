"""Filters correlated against the queries: they leave the lists nearest to a query almost empty.

Parameters that were tuned under random filters are raised here until they also reach the target
when only the rows farthest from the queries are allowed. Each query is searched separately, since
the number of lists it probes depends on how many allowed rows its nearest lists hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.ann.candidates import TUNED_K, Candidates, IndexParams
from twinlens.index.ann.recall import Sample, find_shares, lower_bound, true_sample
from twinlens.index.vectors.arrays import Floats, Mask, as_float32

BLOCK = 16_384
STEP = 1.3  # at least, between the numbers of lists that are tried


def widen(
    index: Candidates,
    rows: npt.NDArray[Any],
    samples: Mapping[str, Sample],
    share: float,
    params: IndexParams,
    target: float,
    live: Mask | None = None,
) -> IndexParams | None:
    """Return the cheapest parameters from `params` up that reach the target, or None."""
    trials = []
    for one in samples.values():
        allowed = select_adverse_rows(rows, one.queries, share, live)
        trials.append((true_sample(one.queries, rows, one.own, allowed), allowed))
    for step in _steps(index, params):
        if all(lower_bound(_measure_each(index, *trial, step)) >= target for trial in trials):
            return step
    return None


def select_adverse_rows(
    rows: npt.NDArray[Any], queries: Floats, share: float, live: Mask | None = None
) -> Mask:
    """Return one flag per row: set for the `share` of live rows farthest from the mean query."""
    mean = queries.mean(axis=0)
    starts = range(0, len(rows), BLOCK)
    near = np.concatenate([as_float32(rows[start : start + BLOCK]) @ mean for start in starts])
    if live is not None:
        near[~live] = np.inf
    count = len(rows) if live is None else int(np.count_nonzero(live))
    return np.argsort(np.argsort(near, kind="stable")) < round(share * count)


def _steps(index: Candidates, params: IndexParams) -> Iterator[IndexParams]:
    """Yield increasingly thorough parameters: more lists, or more candidates without lists."""
    yield params
    last = params.probe
    for probe in index.probes:
        # Each step is a measurement, of one query at a time: coarser than the tuner's grid.
        if probe >= STEP * last or (probe == index.probes[-1] and probe > last):
            yield IndexParams(probe, params.expansion)
            last = probe
    if len(index.probes) == 1:
        for expansion in index.kind.expansions:
            if expansion > params.expansion:
                yield IndexParams(params.probe, expansion)


def _measure_each(
    index: Candidates, sample: Sample, allowed: Mask, params: IndexParams
) -> npt.NDArray[np.float64]:
    """Return each query's recall, searched as in `AnnIndex.search`."""
    per_list = index.count_by_list(allowed)
    enough = TUNED_K * params.expansion
    found = np.empty(len(sample.queries))
    for place in range(len(found)):
        one = sample.part(slice(place, place + 1))
        probe = index.probe_for(one.queries, params.probe, per_list, enough)
        shares = find_shares(index, one, probe, (params.expansion,), allowed, filtered=True)
        found[place] = shares[0, 0]
    return found
