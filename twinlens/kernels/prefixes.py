"""Losses of several prefixes in one pass over the pairs: Matryoshka.

The cosine of a prefix grows segment by segment, so one product of the whole width gives those of
all prefixes. In the backward the gradient of a segment takes the sum of the prefixes' G that hold
it, so G's two products are of the whole width too: 4 units of 2nmd for a softmax and 3 for a
sigmoid, d the longest width, however many prefixes there are. With unit rows u and v, a_k and b_k
what their first k segments must be multiplied by to be unit rows:

    cos_k = a_k b_k <u, v over the first k segments>           slope_k = sum_j G_k cos_k
    d/du in segment s = (sum over k >= s of a_k b_k G_k) v - u * sum over k >= s of a_k^2 slope_k

What must stay true: each prefix counts as if it stood alone, whatever the norms of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from twinlens.kernels.contrastive import PerSide, Problem, Side, linear_blocks


@dataclass(frozen=True)
class Prefixes:
    """Rows against columns at several widths, each with its weight; `problems` are theirs alone."""

    x: Tensor  # (n, d), d the longest width
    y: Tensor
    widths: tuple[int, ...]
    weights: tuple[float, ...]
    norms: PerSide  # inverse norms, (widths, n) and (widths, m)
    problems: tuple[Problem, ...]

    @staticmethod
    def pose(
        x: Tensor, y: Tensor, factor: Tensor, widths: Sequence[int], weights: Sequence[float],
        **settings: Any,
    ) -> Prefixes:  # fmt: skip
        """Measure the norms; `factor` and settings are those of each `Problem`."""
        x, y = x[:, : widths[-1]], y[:, : widths[-1]]
        norms = PerSide(*(torch.stack([_measure(t, w) for w in widths]) for t in (x, y)))
        problems = tuple(
            Problem(
                Side(x[:, :width], norms.rows[k]), Side(y[:, :width], norms.columns[k]),
                factor, **settings,
            )
            for k, width in enumerate(widths)
        )  # fmt: skip
        return Prefixes(x, y, tuple(widths), tuple(weights), norms, problems)

    @property
    def whole(self) -> Problem:
        """Return the problem of the longest prefix."""
        return self.problems[-1]

    @cached_property
    def segments(self) -> tuple[slice, ...]:
        """Return the columns that each prefix adds to the one before."""
        ends = (0, *self.widths)
        return tuple(slice(*ends[k : k + 2]) for k in range(len(self.widths)))

    def weigh(self, each: PerSide) -> list[PerSide]:
        """Return a share or pull times each prefix's weight."""
        return [PerSide(each.rows * w, each.columns * w) for w in self.weights]


@dataclass(frozen=True)
class PrefixGradient:
    """The gradients from one pass over the pairs: of whole unit rows, and slopes."""

    by_x: Tensor  # H v (n, d)
    by_y: Tensor  # H^T u (m, d), empty unless needed
    slopes: PerSide  # (widths, n) and (widths, m)
    left_out: tuple[int, ...] = ()  # prefixes that the pass could not handle; not in the rest


@dataclass(frozen=True)
class PrefixValue:
    """The sigmoid's weighted value and the sum of its G, beside the gradient."""

    value: Tensor
    total: Tensor
    gradient: PrefixGradient


class PrefixEngine(Protocol):
    """The passes over the pairs, of all prefixes at once."""

    def prefix_sums(self, prefixes: Prefixes, shares: list[PerSide]) -> list[PerSide]:
        """Return each prefix's log-sum-exps, as `Engine.softmax_sums`."""
        ...

    def prefix_gradient(
        self, prefixes: Prefixes, lse: list[PerSide], shares: list[PerSide], pulls: list[PerSide]
    ) -> PrefixGradient:
        """Return the softmax's gradient from its log-sum-exps."""
        ...

    def prefix_sigmoid(self, prefixes: Prefixes, bias: Tensor, pull: PerSide) -> PrefixValue:
        """Return the sigmoid's value and gradient in one pass."""
        ...


def project(
    prefixes: Prefixes, gradient: PrefixGradient, factor: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the raw rows' gradients by x and by y from those of the unit rows."""
    norms, slopes = prefixes.norms, gradient.slopes
    by_x = _project(prefixes, prefixes.x, norms.rows, gradient.by_x, slopes.rows, factor)
    if not len(gradient.by_y):
        return by_x.to(dtype), prefixes.y.new_empty(0, dtype=dtype)
    by_y = _project(prefixes, prefixes.y, norms.columns, gradient.by_y, slopes.columns, factor)
    return by_x.to(dtype), by_y.to(dtype)


def _project(
    prefixes: Prefixes, raw: Tensor, norms: Tensor, gradient: Tensor, slopes: Tensor, factor: Tensor
) -> Tensor:
    """Remove the radial part, prefix by prefix, and divide by the norm; in place."""
    longer = norms / norms[-1]
    outward = (longer * longer * slopes).flip(0).cumsum(0).flip(0)
    scaled = norms[-1] * factor
    for rows in linear_blocks(gradient):
        for k, columns in enumerate(prefixes.segments):
            unit = raw[rows, columns].to(norms.dtype) * norms[-1, rows, None]
            part = gradient[rows, columns]
            part.addcmul_(unit, outward[k, rows, None], value=-1).mul_(scaled[rows, None])
    return gradient


def _measure(rows: Tensor, width: int) -> Tensor:
    return Side.measure(rows[:, :width]).inverse_norm
