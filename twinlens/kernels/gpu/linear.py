"""Launches of work linear in the rows: norms, and sums to logarithms and gains.

Small batches are bound by launches, not arithmetic, so each step is one kernel.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from twinlens.kernels import contrastive, positives
from twinlens.kernels.contrastive import PerSide, Problem, Side
from twinlens.kernels.gpu.ends import units_kernel
from twinlens.kernels.gpu.launch import Again, divide_up, power_above, side_arguments
from twinlens.kernels.gpu.rows import (
    gain_kernel,
    lse_kernel,
    own_cosine_kernel,
    project_kernel,
    unit_kernel,
)

WIDEST = 4096  # numbers of a row that one program takes whole
VECTOR = 256  # entries of a vector that one program takes


def compute_lse(lines: Tensor, shift: Tensor, shares: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Return the log-sum-exps of lines of shifted sums, and flags of those that underflowed."""
    count = lines.shape[1]
    lse = lines.new_empty(count, dtype=torch.float64)
    flags = lines.new_empty(count, dtype=torch.int32)
    lse_kernel[(divide_up(count, VECTOR),)](
        lines, shift, shares, lse, flags, len(lines), count, contrastive.underflow_bar(terms),
        BM=VECTOR,
    )  # fmt: skip
    return lse, flags


def compute_gain(
    problem: Problem, lse: PerSide, shift: Tensor, shares: PerSide
) -> tuple[PerSide, PerSide, Tensor]:
    """Return the shifted logs, the gains, and one flag: whether anything underflowed."""
    n, m = len(problem.x), len(problem.y)
    split = divide_up(n, VECTOR)
    flags = shift.new_empty(split + divide_up(m, VECTOR), dtype=torch.int32)
    sides = (
        (lse.rows, shares.rows, flags[:split], m),
        (lse.columns, shares.columns, flags[split:], n),
    )
    logs, gains = [], []
    for sums, share, flag, terms in sides:
        log, gain = shift.new_empty(2, len(sums))
        gain_kernel[(len(flag),)](
            sums, shift, share, log, gain, flag, len(sums), contrastive.underflow_bar(terms),
            BM=VECTOR,
        )  # fmt: skip
        logs.append(log)
        gains.append(gain)
    return PerSide(*logs), PerSide(*gains), flags.amax()


def compute_own_cosines(problem: Problem) -> Tensor:
    """Return each row's cosine with its own column: (n,)."""
    x, y = problem.x, problem.y
    d = x.raw.shape[1]
    if d > WIDEST:
        return positives.own_cosines(problem)
    out = x.inverse_norm.new_empty(len(x))
    high, wide = choose_rows(x.raw)
    own_cosine_kernel[(divide_up(len(x), high),)](
        *side_arguments(x, y), out, len(x), d, x.raw.stride(0), y.raw.stride(0),
        problem.pairs.offset, BM=high, D=wide,
    )  # fmt: skip
    return out


def project(side: Side, rows: slice, unit_gradient: Tensor, factor: Tensor, out: Tensor) -> Tensor:
    """Write the raw rows' gradient from the unit rows'; return the sum of their slopes."""
    d = out.shape[1]
    if d > WIDEST:
        return contrastive.project_rows(side, rows, unit_gradient, factor, out)
    x, norm = side.raw[rows], side.inverse_norm[rows]
    high, wide = choose_rows(x)
    slopes = torch.empty_like(norm)
    project_kernel[(divide_up(len(x), high),)](
        x, norm, unit_gradient, factor, out, slopes, len(x), d, x.stride(0), out.stride(0),
        BM=high, D=wide,
    )  # fmt: skip
    return slopes.sum()


def unit_rows(side: Side, rows: slice = slice(None)) -> Tensor:
    """Return unit rows in the embeddings' own type."""
    x, norm = side.raw[rows], side.inverse_norm[rows]
    out = x.new_empty(x.shape)
    d = x.shape[1]
    if d > WIDEST:
        return torch.mul(x, norm[:, None], out=out)
    high, wide = choose_rows(x)
    unit_kernel[(divide_up(len(x), high),)](x, norm, out, len(x), d, x.stride(0), BM=high, D=wide)
    return out


def units(x: Side, y: Side, key: Hashable | None = None) -> tuple[Tensor, Tensor]:
    """Return both sides' unit rows, by one launch."""
    n, m, d = len(x), len(y), x.raw.shape[1]
    if d > WIDEST:
        return unit_rows(x), unit_rows(y)
    both = x.raw.new_empty(n + m, d)
    high, wide = choose_rows(x.raw)
    again = Again(units_kernel, key)
    again[(divide_up(n, high) + divide_up(m, high),)](
        x.raw, y.raw, x.inverse_norm, y.inverse_norm, both, n, m, d, x.raw.stride(0),
        y.raw.stride(0), BM=high, D=wide,
    )  # fmt: skip
    return both[:n], both[n:]


def choose_rows(x: Tensor) -> tuple[int, int]:
    """Return how many rows, and how many columns, one program takes."""
    wide = max(16, power_above(x.shape[1]))
    return (max(1, 4096 // wide) if x.is_cuda else 64), wide
