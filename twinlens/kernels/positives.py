"""The positives' part of a loss and its gradient, in time linear in n + m.

The sum over positives of (r_i + c_j) <x_i, y_j> needs no tile: over a group of one label it is r_i
* (sum of y_j) + (sum of c_j y_j), two sums that serve all rows of the group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twinlens.kernels.contrastive import Engine, PerSide, Problem, Side, linear_blocks
from twinlens.kernels.pairs import Pairs


def attraction(problem: Problem, pull: PerSide, engine: Engine) -> Tensor:
    """Return the sum over positives of pull * cosine, in float64."""
    x, y, pairs = problem.x, problem.y, problem.pairs
    if pairs.row_labels is None:
        u = pull.rows + pull.columns[_own(pairs, slice(0, len(x)))]
        return (u * engine.own_cosines(problem)).sum(dtype=torch.float64)
    total = x.inverse_norm.new_zeros((), dtype=torch.float64)
    targets = _targets(y.unit, pairs, pull)
    for b in linear_blocks(x.raw):
        total += (x.rows(b) * targets[b]).sum(1).double().sum()
    return total


def own_cosines(problem: Problem) -> Tensor:
    """Return the cosine of each row with its own column: (n,); see `Engine.own_cosines`."""
    x, y = problem.x, problem.y
    parts = [(x.rows(b) * y.rows(_own(problem.pairs, b))).sum(1) for b in linear_blocks(x.raw)]
    return torch.cat(parts)


def subtract_pull(
    dx: Tensor, dy: Tensor | None, x: Side, y: Side, pairs: Pairs, pull: PerSide
) -> None:
    """Subtract the positives' part of G y and G^T x."""
    if pairs.row_labels is None:
        own = _own(pairs, slice(0, len(x)))
        u = (pull.rows + pull.columns[own])[:, None]
        dx.addcmul_(y.unit[own], u, value=-1)
        if dy is not None:
            dy[own].addcmul_(x.unit, u, value=-1)
        return
    dx -= _targets(y.unit, pairs, pull)
    if dy is not None:
        dy -= _targets_of_columns(x.unit, pairs, pull)


def _own(pairs: Pairs, rows: slice) -> slice:
    return slice(pairs.offset + rows.start, pairs.offset + rows.stop)


def _targets(y: Tensor, pairs: Pairs, pull: PerSide) -> Tensor:
    """Return for each row the sum of its positives, each times the pair's pull: (n, d)."""
    rows, columns, k = pairs.groups()
    target = _group_sums(y, columns, rows, k, pull.columns, pull.rows)
    if pairs.exclude_self:
        own = _own(pairs, slice(0, len(rows)))
        target.addcmul_(y[own], _own_pull(pairs, pull)[:, None], value=-1)
    return target


def _targets_of_columns(x: Tensor, pairs: Pairs, pull: PerSide) -> Tensor:
    rows, columns, k = pairs.groups()
    target = _group_sums(x, rows, columns, k, pull.rows, pull.columns)
    if pairs.exclude_self:
        own = _own(pairs, slice(0, len(rows)))
        target[own].addcmul_(x, _own_pull(pairs, pull)[:, None], value=-1)
    return target


def _group_sums(
    source: Tensor, group: Tensor, wanted: Tensor, k: int, inner: Tensor, outer: Tensor
) -> Tensor:
    """Return for each wanted group the sum over its sources of (outer + inner) * source."""
    plain = source.new_zeros(k, source.shape[1]).index_add_(0, group, source)
    pulled = source.new_zeros(k, source.shape[1]).index_add_(0, group, source * inner[:, None])
    return outer[:, None] * plain[wanted] + pulled[wanted]


def _own_pull(pairs: Pairs, pull: PerSide) -> Tensor:
    """Return the pull of each row on itself, which the group sums include by mistake: (n,)."""
    rows, columns, _ = pairs.groups()
    own = _own(pairs, slice(0, len(rows)))
    return (pull.rows + pull.columns[own]) * (rows == columns[own])
