"""The engine in plain torch: exact, in linear memory, on any device; the CPU path.

Every sweep visits the n x m logits tile by tile and holds one tile at a time. Softmax works in bits
(base 2) with a constant shift; see `contrastive.find_shift`. What must stay true: no allocation
grows with n * m, and every number equals `reference`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from twinlens.kernels import contrastive, positives
from twinlens.kernels.contrastive import (
    Emit,
    PerSide,
    Problem,
    Side,
    SigmoidPass,
    Sums,
    blocks,
    find_shift,
)
from twinlens.kernels.exact import (
    exact_gradient,
    exact_lse,
    find_underflowed,
    hidden_columns,
    hidden_rows,
)
from twinlens.kernels.pairs import Pairs

ROWS, COLUMNS = 1024, 4096  # one tile: 16 MB in float32; matrix products of smaller ones are slow


class ChunkedEngine:
    """Exact, in linear memory, on any device; the CPU path."""

    def softmax_sums(self, problem: Problem, shares: PerSide, *, keep: bool = False) -> Sums:
        """Return the log-sum-exps; see `contrastive.Engine`."""
        x, y, s2 = problem.x.unit, problem.y.unit, problem.factor
        kept = x.new_empty(len(x), len(y)) if keep else None
        rows, columns = softmax_sums(x, y, s2, problem.pairs, columns=problem.symmetric, kept=kept)
        return Sums(finish_sums(problem, shares, PerSide(rows, columns)), kept)

    def softmax_gradient(
        self, problem: Problem, sums: Sums, shares: PerSide, pull: PerSide, emit: Emit
    ) -> Tensor:
        """Emit G y, return G^T x; see `contrastive.Engine`."""
        x, y, s2, lse = problem.x.unit, problem.y.unit, problem.factor, sums.lse
        shift, underflowed = contrastive.find_shift(s2), find_underflowed(problem, lse, shares)
        gain = PerSide(
            contrastive.find_gain(lse.rows + shift, shares.rows).index_fill_(
                0, underflowed.rows, 0.0
            ),
            contrastive.find_gain(lse.columns + shift, shares.columns).index_fill_(
                0, underflowed.columns, 0.0
            ),
        )
        dx, dy = softmax_gradient(problem, gain, sums.kept)
        if len(at := underflowed.rows):
            hidden, few = hidden_rows(problem, at), (lse.rows[at], shares.rows[at])
            by_rows, by_y = exact_gradient(x[at], y, s2, hidden, *few)
            dx.index_add_(0, at, by_rows)
            dy += by_y[: len(dy)]
        if len(at := underflowed.columns):
            hidden, few = hidden_columns(problem, at), (lse.columns[at], shares.columns[at])
            by_columns, by_x = exact_gradient(y[at], x, s2, hidden, *few)
            dx += by_x
            if problem.needs_y:
                dy.index_add_(0, at, by_columns)
        wanted = dy if problem.needs_y else None
        positives.subtract_pull(dx, wanted, problem.x, problem.y, problem.pairs, pull)
        emit(slice(0, len(x)), dx)
        return dy

    def sigmoid_total(self, problem: Problem, bias: Tensor, pull: PerSide) -> Tensor:
        """Return the sum of softplus; see `contrastive.Engine`."""
        total = problem.x.unit.new_zeros(())
        for rows, columns, z in _logits(problem.x.unit, problem.y.unit, problem.factor, bias):
            at = find_positives(problem.pairs, rows, columns, z.device)
            total += sum_softplus(
                z, at, find_pulls(pull, rows, columns, at), problem, rows, columns
            )
        return total

    def sigmoid_pass(
        self, problem: Problem, bias: Tensor, pull: PerSide, emit: Emit
    ) -> SigmoidPass:
        """Emit G y, return the value, G^T x and sum(G); see `contrastive.Engine`."""
        x, y, pairs = problem.x.unit, problem.y.unit, problem.pairs
        dx, dy = torch.zeros_like(x), torch.zeros_like(y if problem.needs_y else y[:0])
        value, total = x.new_zeros(()), x.new_zeros(())
        for rows, columns, z in _logits(x, y, problem.factor, bias):
            at = find_positives(pairs, rows, columns, z.device)
            weights = find_pulls(pull, rows, columns, at)
            value += sum_softplus(z, at, weights, problem, rows, columns)  # negates positives
            g = z.sigmoid_()
            # -sigmoid(-z), not sigmoid(z) - 1, which would lose the digits of a well-fitted pair
            g[at] *= -weights
            hide(g, pairs, rows, columns, 0.0)
            total += g.sum()
            _multiply(g, x, y, dx, dy, rows, columns)
        emit(slice(0, len(dx)), dx)
        return SigmoidPass(value, dy, total)

    def own_cosines(self, problem: Problem) -> Tensor:
        """Return each row's cosine with its own column; see `contrastive.Engine`."""
        return positives.own_cosines(problem)

    def project(
        self, side: Side, rows: slice, unit_gradient: Tensor, factor: Tensor, out: Tensor
    ) -> Tensor:
        """Write the raw rows' gradient; see `contrastive.Engine`."""
        return contrastive.project_rows(side, rows, unit_gradient, factor, out)


def finish_sums(problem: Problem, shares: PerSide, sums: PerSide) -> PerSide:
    """Return the log-sum-exps from shifted sums; underflowed ones by the exact formula."""
    x, y, s2 = problem.x.unit, problem.y.unit, problem.factor
    shift = contrastive.find_shift(s2)
    columns = sums.columns if problem.row_group is None else problem.row_group.sum(sums.columns)
    lse = PerSide(sums.rows.double().log2() - shift, columns.double().log2() - shift)
    underflowed = find_underflowed(problem, lse, shares)
    if len(at := underflowed.rows):
        lse.rows[at] = exact_lse(x[at], y, s2, hidden_rows(problem, at))
    if len(at := underflowed.columns):
        exact = exact_lse(y[at], x, s2, hidden_columns(problem, at))
        lse.columns[at] = problem.row_group.logaddexp2(exact) if problem.row_group else exact
    return lse


def softmax_sums(
    x: Tensor, y: Tensor, s2: Tensor, pairs: Pairs, *, columns: bool, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sums of e over each unit row of x (n,) and, if asked, of y (m,); fill `kept`."""
    row_sums, column_sums = x.new_zeros(len(x)), x.new_zeros(len(y))
    for i, j, e in _exponentials(x, y, s2, pairs):
        row_sums[i] += e.sum(1)
        if columns:
            column_sums[j] += e.sum(0)
        if kept is not None:
            kept[i, j] = e
    return row_sums, column_sums


def softmax_gradient(problem: Problem, gain: PerSide, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return G y (n, d) and G^T x (m, d) for G = e * (row gain + column gain), in one sweep.

    With gain = share / sum, one exponential serves the probabilities of both directions.
    """
    x, y = problem.x.unit, problem.y.unit
    dx, dy = torch.zeros_like(x), torch.zeros_like(y if problem.needs_y else y[:0])
    buffer = _tile_buffer(x, y)
    for i, j, e in _terms(problem, kept):
        both = buffer[: e.numel()].view_as(e)
        torch.add(gain.rows[i, None], gain.columns[j], out=both)
        _multiply(both.mul_(e), x, y, dx, dy, i, j)
    return dx, dy


def _multiply(
    g: Tensor, x: Tensor, y: Tensor, dx: Tensor, dy: Tensor, rows: slice, columns: slice
) -> None:
    dx[rows].addmm_(g, y[columns])
    if len(dy):
        dy[columns].addmm_(g.T, x[rows])


def _tiles(n: int, m: int) -> Iterator[tuple[slice, slice]]:
    for rows in blocks(n, ROWS):
        for columns in blocks(m, COLUMNS):
            yield rows, columns


def _tile_buffer(x: Tensor, y: Tensor) -> Tensor:
    return x.new_empty(min(ROWS, len(x)) * min(COLUMNS, len(y)))


def _logits(
    x: Tensor, y: Tensor, factor: Tensor, shift: Tensor
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield each tile of factor * cosine + shift; all tiles share one buffer."""
    buffer = _tile_buffer(x, y)
    scaled, at = x[:0], slice(0, 0)
    for rows, columns in _tiles(len(x), len(y)):
        if rows != at:
            scaled, at = x[rows] * factor, rows
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        tile = buffer[: shape[0] * shape[1]].view(shape)
        yield rows, columns, torch.addmm(shift, scaled, y[columns].T, out=tile)


def _terms(problem: Problem, kept: Tensor | None) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield each tile of the forward's terms; recompute them unless they were kept."""
    x, y = problem.x.unit, problem.y.unit
    if kept is None:
        yield from _exponentials(x, y, problem.factor, problem.pairs)
    else:
        for rows, columns in _tiles(len(x), len(y)):
            yield rows, columns, kept[rows, columns]


def _exponentials(
    x: Tensor, y: Tensor, s2: Tensor, pairs: Pairs
) -> Iterator[tuple[slice, slice, Tensor]]:
    for rows, columns, z in _logits(x, y, s2, find_shift(s2)):
        e = z.exp2_()
        hide(e, pairs, rows, columns, 0.0)
        yield rows, columns, e


def hide(tile: Tensor, pairs: Pairs, rows: slice, columns: slice, value: float) -> None:
    """Overwrite the hidden entries of the tile; most tiles have none and cost nothing."""
    if columns.start < pairs.own_key_columns:
        i, j = _numbers(rows, tile.device)[:, None], _numbers(columns, tile.device)[None, :]
        tile.masked_fill_(pairs.hidden(i, j), value)
    elif pairs.exclude_self and pairs.crosses(rows, columns):
        tile[pairs.diagonal_in(rows, columns, tile.device)] = value


def find_positives(
    pairs: Pairs, rows: slice, columns: slice, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the tile's positives as local row and column numbers."""
    if pairs.row_labels is None:
        return pairs.diagonal_in(rows, columns, device)
    i, j = _numbers(rows, device)[:, None], _numbers(columns, device)[None, :]
    local = pairs.positive(i, j).nonzero()
    return local[:, 0], local[:, 1]


def find_pulls(pull: PerSide, rows: slice, columns: slice, at: tuple[Tensor, Tensor]) -> Tensor:
    """Return the pull on each of the tile's positives."""
    return pull.rows[rows][at[0]] + pull.columns[columns][at[1]]


def sum_softplus(
    z: Tensor, at: tuple[Tensor, Tensor], weights: Tensor, problem: Problem,
    rows: slice, columns: slice,
) -> Tensor:  # fmt: skip
    """Negate z at the positives, and return the weighted sum of softplus."""
    z[at] = -z[at]
    hide(z, problem.pairs, rows, columns, -torch.inf)
    terms = F.softplus(z, threshold=60.0)
    if problem.pairs.weigh_positives:
        terms[at] *= weights
    return terms.sum()


def _numbers(span: slice, device: torch.device) -> Tensor:
    return torch.arange(span.start, span.stop, device=device)
