"""The exact formula, with a running maximum, for the few rows that underflowed: the CPU's.

A row has underflowed if its sum with the constant shift may have lost relevant terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from twinlens.kernels import contrastive
from twinlens.kernels.contrastive import LOG2_E, PerSide, Problem, blocks

COLUMNS = 4096  # rows at a time

# Which of the given columns are hidden from the few rows of an exact pass: (k, columns).
Hidden = Callable[[Tensor], Tensor]


def exact_lse(x: Tensor, y: Tensor, s2: Tensor, hidden: Hidden) -> Tensor:
    """Return log2 sum_j 2^(cos * s2) for the few rows x (k, d): float64, by a running maximum."""
    lse = x.new_full((len(x),), -torch.inf, dtype=torch.float64)
    for _, z in _exact_logits(x, y, s2, hidden):
        lse = torch.logaddexp2(lse, torch.logsumexp(z.double() * math.log(2), 1) * LOG2_E)
    return lse


def exact_gradient(
    x: Tensor, y: Tensor, s2: Tensor, hidden: Hidden, lse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return P y (k, d) and P^T x (m, d), P the weighted probabilities of the few rows x."""
    dx, dy = torch.zeros_like(x), torch.zeros_like(y)
    for columns, z in _exact_logits(x, y, s2, hidden):
        p = torch.exp2(z - lse[:, None]).to(z.dtype).mul_(weight[:, None])
        dx.addmm_(p, y[columns])
        dy[columns].addmm_(p.T, x)
    return dx, dy


def _exact_logits(
    x: Tensor, y: Tensor, s2: Tensor, hidden: Hidden
) -> Iterator[tuple[slice, Tensor]]:
    scaled = x * s2
    for columns in blocks(len(y), COLUMNS):
        z = scaled @ y[columns].T
        yield (
            columns,
            z.masked_fill_(
                hidden(torch.arange(columns.start, columns.stop, device=x.device)), -torch.inf
            ),
        )


def find_underflowed(problem: Problem, lse: PerSide, shares: PerSide) -> PerSide:
    """Return the numbers of the underflowed rows and of the underflowed columns."""
    shift = contrastive.find_shift(problem.factor)
    n, m = len(problem.x), len(problem.y)
    rows = contrastive.has_underflowed(lse.rows + shift, shares.rows, terms=m)
    columns = contrastive.has_underflowed(lse.columns + shift, shares.columns, terms=n)
    return PerSide(rows.nonzero()[:, 0], columns.nonzero()[:, 0])


def hidden_rows(problem: Problem, at: Tensor) -> Hidden:
    """Return what is hidden from these rows."""
    return lambda columns: problem.pairs.hidden(at[:, None], columns[None, :])


def hidden_columns(problem: Problem, at: Tensor) -> Hidden:
    """Return what is hidden from these columns."""
    return lambda rows: problem.pairs.hidden(rows[None, :], at[:, None])
