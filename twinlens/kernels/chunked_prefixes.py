"""The passes over several prefixes at once in plain torch: the CPU path.

A tile's product is accumulated segment by segment, in place. What must stay true: as in `chunked`;
the tiles of all prefixes together are as large as one tile of a single loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from twinlens.kernels import chunked, contrastive
from twinlens.kernels.chunked import find_positives, find_pulls, finish_sums, hide, sum_softplus
from twinlens.kernels.contrastive import PerSide, blocks
from twinlens.kernels.exact import find_underflowed
from twinlens.kernels.prefixes import Prefixes, PrefixGradient, PrefixValue

LEAST_ROWS = 64  # of a tile, for any number of prefixes


class ChunkedPrefixes:
    """All prefixes in one pass, on any device."""

    def prefix_sums(self, prefixes: Prefixes, shares: list[PerSide]) -> list[PerSide]:
        """Return each prefix's log-sum-exps."""
        shift = contrastive.find_shift(prefixes.whole.factor)
        sums = PerSide(
            *(torch.zeros_like(t) for t in (prefixes.norms.rows, prefixes.norms.columns))
        )
        for tile in _tiles(prefixes):
            for k, dots in tile.grow():
                e = tile.scale(dots, k, shift).exp2_()
                hide(e, prefixes.whole.pairs, tile.rows, tile.columns, 0.0)
                sums.rows[k, tile.rows] += e.sum(1)
                if prefixes.whole.symmetric:
                    sums.columns[k, tile.columns] += e.sum(0)
        return [
            finish_sums(problem, shares[k], PerSide(sums.rows[k], sums.columns[k]))
            for k, problem in enumerate(prefixes.problems)
        ]

    def prefix_gradient(
        self, prefixes: Prefixes, lse: list[PerSide], shares: list[PerSide], pulls: list[PerSide]
    ) -> PrefixGradient:
        """Return the softmax's gradient; prefixes with an underflowed row are left out."""
        shift = contrastive.find_shift(prefixes.whole.factor)
        gains, left_out = [], []
        for k, problem in enumerate(prefixes.problems):
            underflowed = find_underflowed(problem, lse[k], shares[k])
            if len(underflowed.rows) or len(underflowed.columns):
                left_out.append(k)
            gains.append(
                PerSide(
                    contrastive.find_gain(lse[k].rows + shift, shares[k].rows),
                    contrastive.find_gain(lse[k].columns + shift, shares[k].columns),
                )
            )
        gradient, pairs = _Gradient(prefixes), prefixes.whole.pairs
        for tile in _tiles(prefixes):
            at = find_positives(pairs, tile.rows, tile.columns, prefixes.x.device)
            for k, dots in tile.grow():
                if k in left_out:
                    tile.terms[k].zero_()
                    continue
                g = tile.scale(dots, k, shift).exp2_()
                rows, columns = gains[k].rows[tile.rows], gains[k].columns[tile.columns]
                g.mul_(torch.add(rows[:, None], columns, out=tile.spare))
                g[at] -= find_pulls(pulls[k], tile.rows, tile.columns, at)
                hide(g, pairs, tile.rows, tile.columns, 0.0)
                gradient.add_slopes(tile, k, dots)
            gradient.multiply(tile)
        return gradient.finish(tuple(left_out))

    def prefix_sigmoid(self, prefixes: Prefixes, bias: Tensor, pull: PerSide) -> PrefixValue:
        """Return the sigmoid's value and gradient in one pass."""
        gradient, problem = _Gradient(prefixes), prefixes.whole
        value, total = bias.new_zeros(()), bias.new_zeros(())
        for tile in _tiles(prefixes):
            at = find_positives(problem.pairs, tile.rows, tile.columns, prefixes.x.device)
            pulls = find_pulls(pull, tile.rows, tile.columns, at)
            for k, dots in tile.grow():
                z, weight = tile.scale(dots, k, bias), prefixes.weights[k]
                softplus = sum_softplus(z, at, pulls, problem, tile.rows, tile.columns)
                value += weight * softplus  # the loss negated the positives' logits
                g = z.sigmoid_().mul_(weight)
                g[at] *= -pulls
                hide(g, problem.pairs, tile.rows, tile.columns, 0.0)
                total += g.sum()
                gradient.add_slopes(tile, k, dots)
            gradient.multiply(tile)
        return PrefixValue(value, total, gradient.finish())


class _Tile:
    """Some rows against some columns: their products, and a tile of terms for each prefix."""

    def __init__(
        self, prefixes: Prefixes, rows: slice, columns: slice, buffer: Tensor, longer: PerSide
    ) -> None:
        self.prefixes, self.rows, self.columns, self.longer = prefixes, rows, columns, longer
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        size = shape[0] * shape[1]
        self.dots, self.spare, *self.terms = (part[:size].view(shape) for part in buffer)

    def grow(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each prefix's number and its products of whole unit rows, summed in one tile."""
        x, y = self.prefixes.whole.x.unit, self.prefixes.whole.y.unit
        for k, part in enumerate(self.prefixes.segments):
            beta = 0.0 if k == 0 else 1.0
            torch.addmm(
                self.dots, x[self.rows, part], y[self.columns, part].T, beta=beta, out=self.dots
            )
            yield k, self.dots

    def scale(self, dots: Tensor, k: int, shift: Tensor) -> Tensor:
        """Write the logits of a prefix to its tile of terms."""
        terms, factor = self.terms[k], self.prefixes.whole.factor
        torch.mul(dots, self.longer.columns[k, self.columns], out=terms)
        logits: Tensor = terms.mul_(self.longer.rows[k, self.rows, None] * factor).add_(shift)
        return logits


class _Gradient:
    """Accumulates products and slopes, tile by tile."""

    def __init__(self, prefixes: Prefixes) -> None:
        x, y, norms = prefixes.whole.x.unit, prefixes.whole.y.unit, prefixes.norms
        self.prefixes = prefixes
        self.by_x = torch.zeros_like(x)
        self.by_y = torch.zeros_like(y if prefixes.whole.needs_y else y[:0])
        self.slopes = PerSide(torch.zeros_like(norms.rows), torch.zeros_like(norms.columns))

    def add_slopes(self, tile: _Tile, k: int, dots: Tensor) -> None:
        """Convert a prefix's G, in its tile of terms, to whole unit rows; add its slopes."""
        g = tile.terms[k]
        g.mul_(tile.longer.columns[k, tile.columns]).mul_(tile.longer.rows[k, tile.rows, None])
        slope = torch.mul(g, dots, out=tile.spare)
        self.slopes.rows[k, tile.rows] += slope.sum(1)
        self.slopes.columns[k, tile.columns] += slope.sum(0)

    def multiply(self, tile: _Tile) -> None:
        """Add each segment's products, with the G of all prefixes that contain it."""
        x, y, g = self.prefixes.whole.x.unit, self.prefixes.whole.y.unit, tile.terms[-1]
        for k in reversed(range(len(tile.terms))):
            part = self.prefixes.segments[k]
            g = g if k == len(tile.terms) - 1 else tile.terms[k].add_(g)
            self.by_x[tile.rows, part].addmm_(g, y[tile.columns, part])
            if len(self.by_y):
                self.by_y[tile.columns, part].addmm_(g.T, x[tile.rows, part])

    def finish(self, left_out: tuple[int, ...] = ()) -> PrefixGradient:
        """Return the accumulated gradient."""
        return PrefixGradient(self.by_x, self.by_y, self.slopes, left_out)


def _tiles(prefixes: Prefixes) -> Iterator[_Tile]:
    """Cut the pairs into tiles, which share their memory."""
    count, norms = len(prefixes.widths), prefixes.norms
    n, m = len(prefixes.x), len(prefixes.y)
    high = max(LEAST_ROWS, chunked.ROWS // count)
    size = min(high, n) * min(chunked.COLUMNS, m)
    buffer = prefixes.whole.x.unit.new_empty(count + 2, size)
    longer = PerSide(norms.rows / norms.rows[-1], norms.columns / norms.columns[-1])
    for rows in blocks(n, high):
        for columns in blocks(m, chunked.COLUMNS):
            yield _Tile(prefixes, rows, columns, buffer, longer)
