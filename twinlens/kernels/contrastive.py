"""The one algorithm behind every contrastive loss; an engine supplies the sweeps over tiles.

    softmax   forward: one sweep gives the sums of rows and of columns
              backward: one sweep makes tiles of G = e * (row gain + column gain) -
              positive * (row pull + column pull), and two products, G y and G^T x
    sigmoid   one sweep, in the forward: G needs no sums, so value and gradient come together

Four units of 2nmd operations for the softmax, both directions, and three if the forward's terms
are kept; three for the sigmoid. Normalisation, the positives' own terms, d/d scale =
sum_i <x_i, (G y)_i> and d/d bias = sum G cost only time linear in n + m.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from twinlens.kernels.pairs import Pairs

EPSILON = 1e-12  # lower bound of norms, as in torch.nn.functional.normalize
HEADROOM = 100.0  # bits by which the shift lifts the largest possible term above 1
FLOOR = -102.0  # a sum below count * 2^FLOOR may have lost relevant terms
LOG2_E = math.log2(math.e)
KEPT_BYTES = 12 << 30  # bytes that "stored" keeps of a forward at most
SPARED_BYTES = 512 << 20  # bytes that "balanced" keeps of a forward on a GPU at most

Memory = Literal["flat", "balanced", "stored"]


@dataclass(frozen=True)
class Side:
    """One side's embeddings, with what normalises them."""

    raw: Tensor  # (n, d)
    inverse_norm: Tensor  # (n,) float32, or float64 for float64

    @staticmethod
    def measure(raw: Tensor) -> Side:
        """Return the side with its norms, in float32 or better."""
        wide = torch.float64 if raw.dtype == torch.float64 else torch.float32
        norm = torch.linalg.vector_norm(raw, dim=1, dtype=wide)
        return Side(raw, norm.clamp_min_(EPSILON).reciprocal_())

    def rows(self, at: slice) -> Tensor:
        """Return some of the unit rows, in the precision of the norms."""
        return self.raw[at].to(self.inverse_norm.dtype) * self.inverse_norm[at, None]

    @cached_property
    def unit(self) -> Tensor:
        """Return all unit rows, and cache them."""
        return self.rows(slice(None))

    def __len__(self) -> int:
        return self.raw.shape[0]


@dataclass(frozen=True)
class PerSide:
    """One number for each row and one for each column; a pair has their sum."""

    rows: Tensor  # (n,)
    columns: Tensor  # (m,)


class RowGroup(Protocol):
    """The processes that share the rows; each holds all columns."""

    def sum(self, partial: Tensor) -> Tensor:
        """Return the sum of all processes' tensors."""
        ...

    def logaddexp2(self, partial: Tensor) -> Tensor:
        """Return log2 of the sum of 2 to the power of all processes' tensors."""
        ...


@dataclass(frozen=True)
class Problem:
    """Rows against columns, and the wanted results."""

    x: Side
    y: Side
    factor: Tensor  # logit = factor * cosine + constant; in bits for a softmax
    pairs: Pairs
    symmetric: bool = False  # also a softmax over columns
    needs_y: bool = True  # in a backward: the gradient by y
    row_group: RowGroup | None = None
    memory: Memory = "balanced"


@dataclass(frozen=True)
class Sums:
    """The results of a forward."""

    lse: PerSide  # in bits, float64
    kept: Tensor | None = None  # (n, m): the shifted terms 2^(logit + shift), hidden ones zero


@dataclass(frozen=True)
class SigmoidPass:
    """The sigmoid's value and gradient, up to factors that the caller applies."""

    value: Tensor  # the sum of softplus over all pairs that are compared
    by_y: Tensor  # G^T x (m, d), empty unless needed
    total: Tensor  # the sum of G


# Receives the finished rows of G y, block by block; the engine does not reuse them.
Emit = Callable[[slice, Tensor], None]


class Engine(Protocol):
    """The sweeps over tiles: in torch (`ChunkedEngine`), or in Triton (`TritonEngine`)."""

    def softmax_sums(self, problem: Problem, shares: PerSide, *, keep: bool = False) -> Sums:
        """Return the log-sum-exp of each row and column that has a share; keep the terms if asked.

        float64, since a loss is a difference of such numbers: 144 - 144 at scale 100. There are few
        of them.
        """
        ...

    def softmax_gradient(
        self, problem: Problem, sums: Sums, shares: PerSide, pull: PerSide, emit: Emit
    ) -> Tensor:
        """Emit G y, return G^T x for G = share * probability - positive * pull, over both sides."""
        ...

    def sigmoid_total(self, problem: Problem, bias: Tensor, pull: PerSide) -> Tensor:
        """Return the sum of softplus(-+ logit) over all pairs, a positive's times its pull."""
        ...

    def sigmoid_pass(
        self, problem: Problem, bias: Tensor, pull: PerSide, emit: Emit
    ) -> SigmoidPass:
        """Emit G y for G = the derivative of that sum by the logits, and return the rest."""
        ...

    def own_cosines(self, problem: Problem) -> Tensor:
        """Return the cosine of each row with its own column, if those are the positives."""
        ...

    def project(
        self, side: Side, rows: slice, unit_gradient: Tensor, factor: Tensor, out: Tensor
    ) -> Tensor:
        """Write the raw rows' gradient from the unit rows'; return the sum of their slopes."""
        ...


def find_shift(s2: Tensor) -> Tensor:
    """Return the shift of a softmax's logit, in bits, before the exponential.

    Cosines are at most 1, so |s2| bounds the logit, and 2^(cos * s2 - |s2| + 100) neither overflows
    nor needs a running maximum: one sweep sums rows and columns.
    """
    return HEADROOM - s2.abs()


def has_underflowed(sums: Tensor, shares: Tensor, terms: int) -> Tensor:
    """Tell which shifted log-sums may have lost relevant terms below 2^-126.

    At the bar, even all `terms` lost terms together are 2^-24 of the sum.
    """
    return (sums < underflow_bar(terms)) & (shares > 0)


def underflow_bar(terms: int) -> float:
    """Return the shifted log-sum below which relevant terms may have been lost."""
    return math.log2(max(terms, 1)) + FLOOR


def find_gain(sums: Tensor, shares: Tensor) -> Tensor:
    """Return share / sum from shifted log-sums: the factor from an exponential to its part of G."""
    return torch.where(shares > 0, shares * torch.exp2(-sums), 0.0).to(shares.dtype)


def compute_weights(problem: Problem) -> tuple[PerSide, PerSide]:
    """Return each row's and column's share of the mean, and the pull on each of its positives.

    Rows without a positive have no share: their mean over positives is undefined.
    """
    n, m, like = len(problem.x), len(problem.y), problem.x.inverse_norm
    if problem.pairs.row_labels is None and problem.row_group is None:
        shares = _diagonal_shares(problem)
        return shares, shares
    row_counts, column_counts = problem.pairs.counts(n, m, like.device)
    anchors = (row_counts > 0).sum()
    if problem.row_group is not None:
        column_counts, anchors = (
            problem.row_group.sum(column_counts),
            problem.row_group.sum(anchors),
        )
    half = 0.5 if problem.symmetric else 1.0
    shares = PerSide(
        _share(row_counts, anchors, half, like),
        _share(column_counts, (column_counts > 0).sum(), 1.0 - half, like),
    )
    pull = PerSide(
        shares.rows / row_counts.clamp_min(1), shares.columns / column_counts.clamp_min(1)
    )
    return shares, pull


def sigmoid_pull(problem: Problem) -> PerSide:
    """Return both halves of each positive's weight: 1/2 each, or 1/2k with `weigh_positives`."""
    n, m, like = len(problem.x), len(problem.y), problem.x.inverse_norm
    if not problem.pairs.weigh_positives:
        return PerSide(like.new_full((n,), 0.5), like.new_full((m,), 0.5))
    rows, columns = problem.pairs.counts(n, m, like.device)
    if problem.row_group is not None:
        columns = problem.row_group.sum(columns)
    return PerSide(*(0.5 / k.clamp_min(1).to(like.dtype) for k in (rows, columns)))


def keeps_terms(memory: Memory, n: int, m: int, element_bytes: int, pairs: Pairs) -> bool:
    """Tell whether a softmax's forward keeps its terms: asked for, few enough, one positive a row.

    Kept terms are rounded, and only positives on the diagonal are cheap to recompute exactly.
    """
    fits = n * m * element_bytes <= KEPT_BYTES
    return memory == "stored" and pairs.row_labels is None and fits


def softmax_loss(lse: PerSide, shares: PerSide, attraction: Tensor, s2: Tensor) -> Tensor:
    """Return sum shares * lse - sum pull * logit of positives, in natural units."""
    repulsion = _weighted(shares.rows, lse.rows) + _weighted(shares.columns, lse.columns)
    return (math.log(2) * (repulsion - attraction * s2)).to(s2.dtype)


class InputGradient:
    """Collects the gradients of unit rows, and converts them to those of raw rows and the scale."""

    def __init__(
        self, side: Side, factor: Tensor, engine: Engine, dtype: torch.dtype | None = None
    ) -> None:
        self.side, self.factor, self.engine = side, factor, engine
        self.raw = side.raw.new_empty(side.raw.shape, dtype=dtype)
        self.slope = side.inverse_norm.new_zeros(())

    def take(self, rows: slice, unit_gradient: Tensor) -> None:
        """Remove the radial part and divide by the norm, for some rows at a time."""
        at = slice(rows.start or 0, (rows.start or 0) + len(unit_gradient))
        self.slope += self.engine.project(self.side, at, unit_gradient, self.factor, self.raw[at])


def project_rows(
    side: Side, rows: slice, unit_gradient: Tensor, factor: Tensor, out: Tensor
) -> Tensor:
    """Write the raw rows' gradient from the unit rows'; see `Engine.project`."""
    total = unit_gradient.new_zeros(())
    for b in linear_blocks(unit_gradient):
        at = slice(rows.start + b.start, rows.start + b.stop)
        unit, d = side.rows(at), unit_gradient[b]
        slope = (unit * d).sum(1)
        total += slope.sum()
        d = torch.addcmul(d, unit, slope[:, None], value=-1)
        out[b] = d.mul_((side.inverse_norm[at] * factor)[:, None])
    return total


def blocks(length: int, size: int) -> list[slice]:
    """Cut 0..length into slices of at most `size`."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def linear_blocks(rows: Tensor) -> list[slice]:
    """Cut for work linear in the rows: small blocks for a CPU's cache, few launches for a GPU."""
    return blocks(len(rows), 8192 if rows.is_cuda else 1024)


def _diagonal_shares(problem: Problem) -> PerSide:
    """Return the shares if each row's one positive is its own column: in few, small launches."""
    n, m, like = len(problem.x), len(problem.y), problem.x.inverse_norm
    half = 0.5 if problem.symmetric else 1.0
    columns = like.new_zeros(m)
    if problem.symmetric:
        columns[problem.pairs.offset : problem.pairs.offset + n] = (1.0 - half) / n
    return PerSide(like.new_full((n,), half / n), columns)


def _share(counts: Tensor, anchors: Tensor, total: float, like: Tensor) -> Tensor:
    return (counts > 0).to(like.dtype) * (total / anchors.clamp_min(1).to(like.dtype))


def _weighted(shares: Tensor, lse: Tensor) -> Tensor:
    # A row without share may see no column and have lse = -inf; 0 * -inf would be NaN.
    return torch.where(shares > 0, shares * lse, 0.0).sum()
