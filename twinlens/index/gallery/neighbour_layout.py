"""A map on which neighbours stay neighbours: a graph of nearest rows, drawn by attraction.

Each row is drawn towards its nearest rows and pushed away from random ones, from the principal
components on, with steps that shrink. A layout of its own, since UMAP brings 400 MB of compilers.
What must stay true: the result depends on rows and start alone; memory grows with rows, not pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from twinlens.index.vectors.arrays import Floats, RowNumbers, as_float32

NEIGHBOURS = 12
ROUNDS = 160
REPELLED = 4  # random rows that a row is pushed from in each round
PUSH = 3.0
SPREAD = 10.0  # of the start, in units in which neighbours lie about 1 apart
STRONGEST = 4.0
EXACT_ROWS = 6000  # compared with each other; of more, rows that share a landmark
MEMBERS = 250  # rows of a landmark, about
LANDMARKS = 3  # nearest ones that a row belongs to
LONG_TAIL = 0.995  # of the coordinates; what lies farther out is drawn to the edge


@dataclass(frozen=True)
class NeighbourGraph:
    """Pairs of rows that attract each other, and how strongly, from 0 to 1."""

    first: RowNumbers
    second: RowNumbers
    weights: Floats


def lay_out(
    rows: Floats,
    start: Floats,
    rounds: int = ROUNDS,
    go_on: Callable[[], bool] = lambda: True,
) -> Floats:
    """Return points (n, 2) between -1 and 1; `go_on` may end it early with what there is."""
    if len(rows) < 3:
        return start
    graph = build_graph(rows)
    points = as_float32(start / max(float(start.std()), 1e-6) * (SPREAD / 2))
    rng = np.random.default_rng(0)
    points = as_float32(points + rng.normal(0, 1e-3, points.shape))  # copies must be able to part
    for at in range(rounds):
        if not go_on():
            break
        step = 1 - at / rounds
        moved = _attract(points, graph) + PUSH * _repel(points, rng)
        points = as_float32(points + step * moved)
    return _fit(points)


def build_graph(rows: Floats, count: int = NEIGHBOURS) -> NeighbourGraph:
    """Return the graph of nearest rows; near ones of each row weigh most."""
    found, cosines = find_nearest_rows(rows, min(count, len(rows) - 1))
    known = found >= 0
    apart = np.where(known, 1 - cosines, np.nan)
    nearest = np.nanmin(apart, axis=1, keepdims=True)
    scale = np.maximum(np.nanmean(apart - nearest, axis=1, keepdims=True), 1e-6)
    weights = np.exp(-(apart - nearest) / scale)
    first = np.broadcast_to(np.arange(len(rows))[:, None], found.shape)[known]
    return NeighbourGraph(first, found[known], as_float32(weights[known]))


def find_nearest_rows(rows: Floats, count: int) -> tuple[RowNumbers, Floats]:
    """Return the nearest other rows of each and their cosines; -1 where fewer are known."""
    if len(rows) <= EXACT_ROWS:
        everyone = np.arange(len(rows))
        return _compare(rows, everyone, count)
    best = np.full((len(rows), count), -1, np.int64)
    cosines = np.full((len(rows), count), -2, np.float32)
    for members in _group_by_landmark(rows):
        near, values = _compare(rows, members, count)
        _keep_best(best, cosines, members, near, values)
    return best, cosines


def _group_by_landmark(rows: Floats) -> list[RowNumbers]:
    """Return groups of rows that overlap: each row is in those of its nearest landmarks."""
    rng = np.random.default_rng(1)
    landmarks = rows[np.sort(rng.choice(len(rows), max(8, len(rows) // MEMBERS), replace=False))]
    nearest = np.empty((len(rows), LANDMARKS), np.int64)
    for at in range(0, len(rows), 4096):
        cosines = rows[at : at + 4096] @ landmarks.T
        nearest[at : at + 4096] = np.argpartition(cosines, -LANDMARKS, axis=1)[:, -LANDMARKS:]
    owner, row = nearest.ravel(), np.repeat(np.arange(len(rows)), LANDMARKS)
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(len(landmarks) + 1))
    pieces = [row[order[low:high]] for low, high in pairwise(bounds)]
    return [piece for group in pieces for piece in _split(group) if len(piece) > 1]


def _split(members: RowNumbers) -> list[RowNumbers]:
    """Return a large group, as one of many copies, in parts that fit into memory."""
    return np.array_split(members, -(-len(members) // EXACT_ROWS)) if len(members) else []


def _compare(rows: Floats, members: RowNumbers, count: int) -> tuple[RowNumbers, Floats]:
    """Return the nearest rows of each member among the members."""
    some = rows[members]
    kept = min(count, len(members) - 1)
    near = np.full((len(members), count), -1, np.int64)
    values = np.full((len(members), count), -2, np.float32)
    for at in range(0, len(members), 1024):
        cosines = some[at : at + 1024] @ some.T
        here = np.arange(len(cosines))
        cosines[here, at + here] = -2  # itself
        top = np.argpartition(cosines, -kept, axis=1)[:, -kept:]
        near[at : at + 1024, :kept] = members[top]
        values[at : at + 1024, :kept] = np.take_along_axis(cosines, top, 1)
    return near, values


def _keep_best(
    best: RowNumbers, cosines: Floats, members: RowNumbers, near: RowNumbers, values: Floats
) -> None:
    """Join new neighbours of the members with those known before."""
    count = best.shape[1]
    both = np.concatenate([best[members], near], axis=1)
    scores = np.concatenate([cosines[members], values], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    both, scores = np.take_along_axis(both, order, 1), np.take_along_axis(scores, order, 1)
    scores[:, 1:][both[:, 1:] == both[:, :-1]] = -2  # known twice
    top = np.argpartition(scores, -count, axis=1)[:, -count:]
    scores = np.take_along_axis(scores, top, 1)
    best[members] = np.where(scores > -2, np.take_along_axis(both, top, 1), -1)
    cosines[members] = scores


def _attract(points: Floats, graph: NeighbourGraph) -> Floats:
    """Return the mean pull of each point's neighbours."""
    gap = points[graph.second] - points[graph.first]
    pull = graph.weights / (1 + np.einsum("ij,ij->i", gap, gap))
    weight = _sum(graph, graph.weights, graph.weights, len(points))
    moved = [_sum(graph, pull * gap[:, axis], -pull * gap[:, axis], len(points)) for axis in (0, 1)]
    return as_float32(np.stack(moved, axis=1) / np.maximum(weight, 1e-6)[:, None])


def _sum(graph: NeighbourGraph, ahead: Floats, back: Floats, count: int) -> npt.NDArray[np.float64]:
    """Return what the pairs do to their first rows and to their second ones."""
    sums = np.zeros(count)
    sums += np.bincount(graph.first, ahead, count)
    sums += np.bincount(graph.second, back, count)
    return sums


def _repel(points: Floats, rng: np.random.Generator) -> Floats:
    """Return the mean push of random points."""
    moved = np.zeros_like(points)
    for _ in range(REPELLED):
        gap = points - points[rng.integers(0, len(points), len(points))]
        far = np.einsum("ij,ij->i", gap, gap)[:, None]
        moved += np.clip(gap / ((0.01 + far) * (1 + far)), -STRONGEST, STRONGEST)
    return as_float32(moved / REPELLED)


def _fit(points: Floats) -> Floats:
    """Return the points between -1 and 1; a few that lie far out do not shrink the rest."""
    middle = np.median(points, axis=0)
    centred = points - middle
    bound = max(float(np.quantile(np.abs(centred), LONG_TAIL)) * 1.1, 1e-6)
    return as_float32(np.clip(centred / bound, -1, 1))
