"""The tile sweeps in plain torch: exact, memory-flat, on any device.

Every sweep visits the n x m logits tile by tile and keeps one tile alive. What must stay true: no
allocation grows with n * m, and every number comes out as `reference` has it.

Softmax works in bits (base 2) with a constant shift; see `contrastive.find_shift`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from twinlens.kernels.contrastive import LOG2_E, PerSide, blocks, find_shift
from twinlens.kernels.pairs import Pairs

ROWS, COLUMNS = 1024, 4096  # one tile: 16 MB in float32; smaller ones starve the matrix product

# Which of the given columns are hidden from the few rows of an exact pass: (k, columns), or None.
Hidden = Callable[[Tensor], Tensor]


def softmax_sums(
    x: Tensor, y: Tensor, s2: Tensor, pairs: Pairs, *, columns: bool
) -> tuple[Tensor, Tensor]:
    """Return the sums of e over each unit row of x (n,) and, if asked, of y (m,)."""
    row_sums, column_sums = x.new_zeros(len(x)), x.new_zeros(len(y))
    for i, j, e in _exponentials(x, y, s2, pairs):
        row_sums[i] += e.sum(1)
        if columns:
            column_sums[j] += e.sum(0)
    return row_sums, column_sums


def softmax_gradient(
    x: Tensor, y: Tensor, s2: Tensor, pairs: Pairs, gain: PerSide, *, needs_y: bool
) -> tuple[Tensor, Tensor]:
    """Return G y (n, d) and G^T x (m, d) for G = e * (row gain + column gain), in one sweep.

    With gain = share / sum, G holds both directions' probabilities for one exponential.
    """
    dx, dy = torch.zeros_like(x), torch.zeros_like(y if needs_y else y[:0])
    buffer = _tile_buffer(x, y)
    for i, j, e in _exponentials(x, y, s2, pairs):
        both = buffer[: e.numel()].view_as(e)
        torch.add(gain.rows[i, None], gain.columns[j], out=both)
        _multiply(e.mul_(both), x, y, dx, dy, i, j)
    return dx, dy


def sigmoid_total(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, pairs: Pairs) -> Tensor:
    """Return the sum of softplus(-+ logit) over all pairs that are compared."""
    total = x.new_zeros(())
    for rows, columns, z in _logits(x, y, scale, bias):
        at = _positives(pairs, rows, columns, x.device)
        z[at] = -z[at]
        _hide(z, pairs, rows, columns, -torch.inf)
        total += F.softplus(z, threshold=60.0).sum()
    return total


def sigmoid_gradient(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, pairs: Pairs, *, needs_y: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return G y (n, d), G^T x (m, d) and sum(G) for G = sigmoid(logit) - positive."""
    dx, dy = torch.zeros_like(x), torch.zeros_like(y if needs_y else y[:0])
    total = x.new_zeros(())
    for rows, columns, z in _logits(x, y, scale, bias):
        at = _positives(pairs, rows, columns, x.device)
        # -sigmoid(-z), not sigmoid(z) - 1: the difference would lose all digits of a solved pair.
        solved = -torch.sigmoid(-z[at])
        g = z.sigmoid_()
        g[at] = solved
        _hide(g, pairs, rows, columns, 0.0)
        total += g.sum()
        _multiply(g, x, y, dx, dy, rows, columns)
    return dx, dy, total


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


def _exponentials(
    x: Tensor, y: Tensor, s2: Tensor, pairs: Pairs
) -> Iterator[tuple[slice, slice, Tensor]]:
    for rows, columns, z in _logits(x, y, s2, find_shift(s2)):
        e = z.exp2_()
        _hide(e, pairs, rows, columns, 0.0)
        yield rows, columns, e


def _exact_logits(
    x: Tensor, y: Tensor, s2: Tensor, hidden: Hidden
) -> Iterator[tuple[slice, Tensor]]:
    scaled = x * s2
    for columns in blocks(len(y), COLUMNS):
        z = scaled @ y[columns].T
        yield columns, z.masked_fill_(hidden(_numbers(columns, x.device)), -torch.inf)


def _hide(tile: Tensor, pairs: Pairs, rows: slice, columns: slice, value: float) -> None:
    """Overwrite what is hidden in the tile; most tiles hide nothing and cost nothing."""
    if columns.start < pairs.private:
        i, j = _numbers(rows, tile.device)[:, None], _numbers(columns, tile.device)[None, :]
        tile.masked_fill_(pairs.hidden(i, j), value)
    elif pairs.exclude_self and pairs.crosses(rows, columns):
        tile[pairs.diagonal_in(rows, columns, tile.device)] = value


def _positives(
    pairs: Pairs, rows: slice, columns: slice, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the tile's positives as local row and column numbers."""
    if pairs.row_labels is None:
        return pairs.diagonal_in(rows, columns, device)
    i, j = _numbers(rows, device)[:, None], _numbers(columns, device)[None, :]
    local = pairs.positive(i, j).nonzero()
    return local[:, 0], local[:, 1]


def _numbers(span: slice, device: torch.device) -> Tensor:
    return torch.arange(span.start, span.stop, device=device)
