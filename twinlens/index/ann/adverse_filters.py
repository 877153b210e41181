"""Filters that lean against the queries: they leave the nearest lists almost empty.

Dials that were tuned under drawn filters are raised here until rows that lie farthest from what is
asked are found as well. Each query is asked by itself, since the lists that it looks at depend on
how many allowed rows its nearest ones hold.
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


def widen(
    index: Candidates,
    rows: npt.NDArray[Any],
    samples: Mapping[str, Sample],
    share: float,
    params: IndexParams,
    target: float,
) -> IndexParams | None:
    """Return the first parameters from these on that reach the target under leaning filters."""
    trials = []
    for one in samples.values():
        allowed = lean_against(rows, one.queries, share)
        trials.append((true_sample(one.queries, rows, one.own, allowed), allowed))
    for step in _steps(index, params):
        if all(lower_bound(_ask_each(index, *trial, step)) >= target for trial in trials):
            return step
    return None


def lean_against(rows: npt.NDArray[Any], queries: Floats, share: float) -> Mask:
    """Return a flag a row: the share of them that lies farthest from the queries as a whole."""
    mean = queries.mean(axis=0)
    starts = range(0, len(rows), BLOCK)
    near = np.concatenate([as_float32(rows[start : start + BLOCK]) @ mean for start in starts])
    return np.argsort(np.argsort(near, kind="stable")) < round(share * len(rows))


def _steps(index: Candidates, params: IndexParams) -> Iterator[IndexParams]:
    """Yield ever more thorough parameters: more lists, or more candidates without lists."""
    yield params
    for probe in index.probes:
        if probe > params.probe:
            yield IndexParams(probe, params.expansion)
    if len(index.probes) == 1:
        for expansion in index.kind.expansions:
            if expansion > params.expansion:
                yield IndexParams(params.probe, expansion)


def _ask_each(
    index: Candidates, sample: Sample, allowed: Mask, params: IndexParams
) -> npt.NDArray[np.float64]:
    """Return the share of its answers that each query finds, asked as a search would."""
    held = index.count_by_list(allowed)
    enough = TUNED_K * params.expansion
    found = np.empty(len(sample.queries))
    for place in range(len(found)):
        one = sample.part(slice(place, place + 1))
        probe = index.probe_for(one.queries, params.probe, held, enough)
        found[place] = find_shares(index, one, probe, (params.expansion,), allowed)[0, 0]
    return found
