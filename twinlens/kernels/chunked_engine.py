"""The engine in plain torch: the sweeps of `chunked`, and the exact formula for faint rows.

`chunked` holds the tiles; here is what is done with them. Unit rows are made once per operator.
"""

from __future__ import annotations

from torch import Tensor

from twinlens.kernels import chunked, contrastive, positives
from twinlens.kernels.contrastive import Emit, PerSide, Problem


class ChunkedEngine:
    """Exact and memory-flat on any device; the CPU path."""

    def softmax_lse(self, problem: Problem, shares: PerSide) -> PerSide:
        """Return the log-sum-exps; see `contrastive.Engine`."""
        x, y, s2, pairs = problem.x.unit, problem.y.unit, problem.factor, problem.pairs
        shift = contrastive.find_shift(s2)
        rows, columns = chunked.softmax_sums(x, y, s2, pairs, columns=problem.symmetric)
        if problem.across is not None:
            columns = problem.across.sum(columns)
        lse = PerSide(rows.double().log2() - shift, columns.double().log2() - shift)
        faint = _find_faint(problem, lse, shares)
        if len(at := faint.rows):
            lse.rows[at] = chunked.exact_lse(x[at], y, s2, _hidden_rows(problem, at))
        if len(at := faint.columns):
            exact = chunked.exact_lse(y[at], x, s2, _hidden_columns(problem, at))
            lse.columns[at] = problem.across.logaddexp2(exact) if problem.across else exact
        return lse

    def softmax_gradient(
        self, problem: Problem, lse: PerSide, shares: PerSide, pull: PerSide, emit: Emit
    ) -> Tensor:
        """Emit G y, return G^T x; see `contrastive.Engine`."""
        x, y, s2, pairs = problem.x.unit, problem.y.unit, problem.factor, problem.pairs
        shift, faint = contrastive.find_shift(s2), _find_faint(problem, lse, shares)
        gain = PerSide(
            contrastive.find_gain(lse.rows + shift, shares.rows).index_fill_(0, faint.rows, 0.0),
            contrastive.find_gain(lse.columns + shift, shares.columns).index_fill_(
                0, faint.columns, 0.0
            ),
        )
        dx, dy = chunked.softmax_gradient(x, y, s2, pairs, gain, needs_y=problem.needs_y)
        if len(at := faint.rows):
            hidden, few = _hidden_rows(problem, at), (lse.rows[at], shares.rows[at])
            by_rows, by_y = chunked.exact_gradient(x[at], y, s2, hidden, *few)
            dx.index_add_(0, at, by_rows)
            dy += by_y[: len(dy)]
        if len(at := faint.columns):
            hidden, few = _hidden_columns(problem, at), (lse.columns[at], shares.columns[at])
            by_columns, by_x = chunked.exact_gradient(y[at], x, s2, hidden, *few)
            dx += by_x
            if problem.needs_y:
                dy.index_add_(0, at, by_columns)
        wanted = dy if problem.needs_y else None
        positives.subtract_pull(dx, wanted, problem.x, problem.y, pairs, pull)
        emit(slice(0, len(x)), dx)
        return dy

    def sigmoid_total(self, problem: Problem, bias: Tensor) -> Tensor:
        """Return the sum of softplus; see `contrastive.Engine`."""
        return chunked.sigmoid_total(
            problem.x.unit, problem.y.unit, problem.factor, bias, problem.pairs
        )

    def sigmoid_gradient(self, problem: Problem, bias: Tensor, emit: Emit) -> tuple[Tensor, Tensor]:
        """Emit G y, return G^T x and sum(G); see `contrastive.Engine`."""
        dx, dy, total = chunked.sigmoid_gradient(
            problem.x.unit,
            problem.y.unit,
            problem.factor,
            bias,
            problem.pairs,
            needs_y=problem.needs_y,
        )
        emit(slice(0, len(dx)), dx)
        return dy, total


def _find_faint(problem: Problem, lse: PerSide, shares: PerSide) -> PerSide:
    """Return the numbers of the faint rows and of the faint columns."""
    shift = contrastive.find_shift(problem.factor)
    n, m = len(problem.x), len(problem.y)
    rows = contrastive.is_faint(lse.rows + shift, shares.rows, terms=m)
    columns = contrastive.is_faint(lse.columns + shift, shares.columns, terms=n)
    return PerSide(rows.nonzero()[:, 0], columns.nonzero()[:, 0])


def _hidden_rows(problem: Problem, at: Tensor) -> chunked.Hidden:
    return lambda columns: problem.pairs.hidden(at[:, None], columns[None, :])


def _hidden_columns(problem: Problem, at: Tensor) -> chunked.Hidden:
    return lambda rows: problem.pairs.hidden(rows[None, :], at[:, None])
