"""The one algorithm behind every contrastive loss; an engine supplies the sweeps over tiles.

    forward   one sweep gives the sums of rows and of columns; the rest is linear in n + m
    backward  one sweep: a tile of G = e * (row gain + column gain) - positive * (row pull +
              column pull), and two products, G y and G^T x

Four units of 2nmd operations in all, for both directions. Normalisation, the positives' own terms,
d/d scale = sum_i <x_i, (G y)_i> and d/d bias = sum G cost only time linear in n + m.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from twinlens.kernels import chunked
from twinlens.kernels.pairs import Pairs

EPSILON = 1e-12  # of torch.nn.functional.normalize: shorter rows are divided by this


@dataclass(frozen=True)
class Side:
    """One side's embeddings as given, and what makes unit rows of them."""

    raw: Tensor  # (n, d)
    inverse_norm: Tensor  # (n,) float32, or float64 for float64

    @cached_property
    def unit(self) -> Tensor:
        """Return the unit rows in the precision of the norms."""
        return self.raw.to(self.inverse_norm.dtype) * self.inverse_norm[:, None]


@dataclass(frozen=True)
class PerSide:
    """One number for each row and one for each column, which add up over a pair."""

    rows: Tensor  # (n,)
    columns: Tensor  # (m,)


class Engine(Protocol):
    """The sweeps over tiles: `chunked` in torch, or Triton."""

    def measure(self, raw: Tensor) -> Side:
        """Return the side with its norms."""
        ...

    def softmax_sums(self, x: Side, y: Side, s2: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the sums of 2^(logit + shift) of rows and of columns."""
        ...

    def softmax_gradient(
        self, x: Side, y: Side, s2: Tensor, pairs: Pairs, gain: PerSide, pull: PerSide
    ) -> tuple[Tensor, Tensor]:
        """Return G y and G^T x for G = 2^(logit + shift) * gain - positive * pull."""
        ...

    def sigmoid_total(self, x: Side, y: Side, scale: Tensor, bias: Tensor, pairs: Pairs) -> Tensor:
        """Return the sum of softplus(-+ logit) over all pairs that are compared."""
        ...

    def sigmoid_gradient(
        self, x: Side, y: Side, scale: Tensor, bias: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return G y, G^T x and sum(G) for G = sigmoid(logit) - positive."""
        ...


class ChunkedEngine:
    """Unit rows are made once; tiles are torch operations."""

    def measure(self, raw: Tensor) -> Side:
        """Return the side with its norms, in float32 or better."""
        wide = raw if raw.dtype == torch.float64 else raw.float()
        return Side(raw, wide.norm(dim=1).clamp_min(EPSILON).reciprocal())

    def softmax_sums(self, x: Side, y: Side, s2: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """See `chunked.softmax_sums`."""
        return chunked.softmax_sums(x.unit, y.unit, s2, pairs)

    def softmax_gradient(
        self, x: Side, y: Side, s2: Tensor, pairs: Pairs, gain: PerSide, pull: PerSide
    ) -> tuple[Tensor, Tensor]:
        """See `chunked.softmax_gradient`; the positives are pulled in linear time."""
        dx, dy = chunked.softmax_gradient(x.unit, y.unit, s2, pairs, gain.rows, gain.columns)
        _subtract_pull(dx, dy, x.unit, y.unit, pairs, pull)
        return dx, dy

    def sigmoid_total(self, x: Side, y: Side, scale: Tensor, bias: Tensor, pairs: Pairs) -> Tensor:
        """See `chunked.sigmoid_total`."""
        return chunked.sigmoid_total(x.unit, y.unit, scale, bias, pairs)

    def sigmoid_gradient(
        self, x: Side, y: Side, scale: Tensor, bias: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `chunked.sigmoid_gradient`."""
        return chunked.sigmoid_gradient(x.unit, y.unit, scale, bias, pairs)


@dataclass(frozen=True)
class Gradients:
    """Of the loss by its inputs, in the inputs' own types."""

    x: Tensor
    y: Tensor
    scale: Tensor
    bias: Tensor


def weigh(pairs: Pairs, x: Side, y: Side, *, symmetric: bool) -> tuple[PerSide, PerSide]:
    """Return each row's and column's share of the mean, and the pull on each of its positives.

    Rows without a positive have no share: they would ask for the mean of nothing.
    """
    n, m = len(x.raw), len(y.raw)
    row_counts, column_counts = pairs.counts(n, m, x.raw.device)
    half = 0.5 if symmetric else 1.0
    shares = PerSide(
        _share(row_counts, half, x.inverse_norm),
        _share(column_counts, 1.0 - half, x.inverse_norm),
    )
    pull = PerSide(
        shares.rows / row_counts.clamp_min(1), shares.columns / column_counts.clamp_min(1)
    )
    return shares, pull


def softmax_statistics(
    engine: Engine, x: Side, y: Side, s2: Tensor, pairs: Pairs, shares: PerSide
) -> PerSide:
    """Return the log-sum-exp of each row and column, in bits and float64.

    float64, since the loss is a difference of such numbers: 144 - 144 at scale 100. They are few.
    """
    shift = chunked.find_shift(s2)
    lse = PerSide(*(s.double().log2() - shift for s in engine.softmax_sums(x, y, s2, pairs)))
    faint = find_faint(lse, s2, shares)
    if len(faint.rows):
        exact = chunked.exact_lse(x.unit[faint.rows], y.unit, s2, _hidden_of_rows(pairs, faint))
        lse.rows[faint.rows] = exact
    if len(faint.columns):
        exact = chunked.exact_lse(
            y.unit[faint.columns], x.unit, s2, _hidden_of_columns(pairs, faint)
        )
        lse.columns[faint.columns] = exact
    return lse


def softmax_loss(
    x: Side, y: Side, s2: Tensor, pairs: Pairs, lse: PerSide, shares: PerSide, pull: PerSide
) -> Tensor:
    """Return sum shares * lse - sum pull * logit of positives."""
    repulsion = _weighted(shares.rows, lse.rows) + _weighted(shares.columns, lse.columns)
    loss = math.log(2) * (repulsion - _attraction(x.unit, y.unit, pairs, pull) * s2)
    return loss.to(s2.dtype)


def softmax_gradient(
    engine: Engine,
    x: Side,
    y: Side,
    s2: Tensor,
    pairs: Pairs,
    lse: PerSide,
    shares: PerSide,
    pull: PerSide,
) -> tuple[Tensor, Tensor]:
    """Return G y and G^T x for the gradient G of the softmax loss by the logits."""
    faint, shift = find_faint(lse, s2, shares), chunked.find_shift(s2)
    gain = PerSide(
        _gain(shares.rows, lse.rows + shift, faint.rows),
        _gain(shares.columns, lse.columns + shift, faint.columns),
    )
    dx, dy = engine.softmax_gradient(x, y, s2, pairs, gain, pull)
    if len(at := faint.rows):
        hidden = _hidden_of_rows(pairs, faint)
        p = chunked.exact_gradient(x.unit[at], y.unit, s2, hidden, lse.rows[at], shares.rows[at])
        dx[at] += p[0]
        dy += p[1]
    if len(at := faint.columns):
        hidden = _hidden_of_columns(pairs, faint)
        lse_at, share_at = lse.columns[at], shares.columns[at]
        p = chunked.exact_gradient(y.unit[at], x.unit, s2, hidden, lse_at, share_at)
        dy[at] += p[0]
        dx += p[1]
    return dx, dy


def finish(
    x: Side, y: Side, scale: Tensor, dx: Tensor, dy: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn G y and G^T x into the gradients of x, y and scale: through the normalisation.

    `factor` is the upstream gradient. dx and dy are overwritten.
    """
    slope = torch.linalg.vecdot(dx, x.unit)
    dscale = slope.sum() * factor
    _through_norm(dx, x, slope, scale * factor)
    _through_norm(dy, y, torch.linalg.vecdot(dy, y.unit), scale * factor)
    return dx.to(x.raw.dtype), dy.to(y.raw.dtype), dscale


def find_faint(lse: PerSide, s2: Tensor, shares: PerSide) -> PerSide:
    """Return the numbers of rows and of columns whose constant-shift sum may have lost terms."""
    shift, m, n = chunked.find_shift(s2), len(lse.columns), len(lse.rows)
    return PerSide(
        _faint(lse.rows + shift, shares.rows, terms=m),
        _faint(lse.columns + shift, shares.columns, terms=n),
    )


def _share(counts: Tensor, total: float, like: Tensor) -> Tensor:
    some = (counts > 0).to(like.dtype)
    return some * (total / some.sum().clamp_min(1))


def _weighted(shares: Tensor, lse: Tensor) -> Tensor:
    # A row without share may see nothing and have lse = -inf; 0 * -inf would be NaN.
    return torch.where(shares > 0, shares * lse, 0.0).sum()


def _gain(shares: Tensor, sums: Tensor, faint: Tensor) -> Tensor:
    gain = torch.where(shares > 0, shares * torch.exp2(-sums), 0.0).to(shares.dtype)
    return gain.index_fill_(0, faint, 0.0)


def _faint(sums: Tensor, shares: Tensor, terms: int) -> Tensor:
    bar = math.log2(max(terms, 1)) + chunked.FLOOR
    return ((sums < bar) & (shares > 0)).nonzero()[:, 0]


def _hidden_of_rows(pairs: Pairs, faint: PerSide) -> Callable[[Tensor], Tensor]:
    return lambda columns: pairs.hidden(faint.rows[:, None], columns[None, :])


def _hidden_of_columns(pairs: Pairs, faint: PerSide) -> Callable[[Tensor], Tensor]:
    return lambda rows: pairs.hidden(rows[None, :], faint.columns[:, None])


def _row_dots(x: Tensor, y: Tensor) -> Tensor:
    """Return <x_i, y_i> for each i, without a product of the inputs' size."""
    return torch.cat([(x[b] * y[b]).sum(1) for b in chunked.blocks(len(x), 1024)])


def _through_norm(d: Tensor, side: Side, slope: Tensor, factor: Tensor) -> None:
    """Overwrite the gradient by unit rows with that by raw rows: drop what points outwards."""
    for b in chunked.blocks(len(d), 1024):
        d[b].addcmul_(side.unit[b], slope[b, None], value=-1)
        d[b].mul_((side.inverse_norm[b] * factor)[:, None])


def _own(pairs: Pairs, n: int) -> slice:
    return slice(pairs.offset, pairs.offset + n)


def _attraction(x: Tensor, y: Tensor, pairs: Pairs, pull: PerSide) -> Tensor:
    """Return the sum over positives of pull * cosine, in linear time and float64."""
    if pairs.row_labels is None:
        own = _own(pairs, len(x))
        u = pull.rows + pull.columns[own]
        return torch.dot(u.double(), _row_dots(x, y[own]).double())
    return _row_dots(x, _targets(y, pairs, pull)).double().sum()


def _targets(y: Tensor, pairs: Pairs, pull: PerSide) -> Tensor:
    """Return for each row the sum of its positives, each times the pair's pull: (n, d).

    sum_j (r_i + c_j) y_j over a group is r_i * (sum of y_j) + (sum of c_j y_j): two sums a group
    serve all its rows, whatever the group's size.
    """
    rows, columns, k = pairs.groups()
    target = _group_sums(y, columns, rows, k, pull.columns, pull.rows)
    if pairs.exclude_self:
        own = _own(pairs, len(rows))
        target.addcmul_(y[own], _own_pull(pairs, pull)[:, None], value=-1)
    return target


def _targets_of_columns(x: Tensor, pairs: Pairs, pull: PerSide) -> Tensor:
    rows, columns, k = pairs.groups()
    target = _group_sums(x, rows, columns, k, pull.rows, pull.columns)
    if pairs.exclude_self:
        own = _own(pairs, len(rows))
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
    """Return the pull that the group sums wrongly count for a row and itself: (n,)."""
    rows, columns, _ = pairs.groups()
    own = _own(pairs, len(rows))
    return (pull.rows + pull.columns[own]) * (rows == columns[own])


def _subtract_pull(
    dx: Tensor, dy: Tensor, x: Tensor, y: Tensor, pairs: Pairs, pull: PerSide
) -> None:
    """Subtract the positives' part of G y and G^T x, in linear time."""
    if pairs.row_labels is None:
        own = _own(pairs, len(x))
        u = (pull.rows + pull.columns[own])[:, None]
        dx.addcmul_(y[own], u, value=-1)
        dy[own].addcmul_(x, u, value=-1)
        return
    dx -= _targets(y, pairs, pull)
    dy -= _targets_of_columns(x, pairs, pull)
