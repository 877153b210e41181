"""Kernels linear in the rows: one pass over (n, d) each, where torch would make ten."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def own_cosine_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, cosine_ptr, n, d, stride_x, stride_y, offset,
    BM: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Write the cosine of each row i of x and row i + offset of y: float32."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.arange(0, D)
    inside = (i < n)[:, None] & (k < d)[None, :]
    x = tl.load(x_ptr + i.to(tl.int64)[:, None] * stride_x + k[None, :], mask=inside, other=0.0)
    own = (i + offset).to(tl.int64)[:, None]
    y = tl.load(y_ptr + own * stride_y + k[None, :], mask=inside, other=0.0)
    rx = tl.load(rx_ptr + i, mask=i < n, other=0.0)
    ry = tl.load(ry_ptr + i + offset, mask=i < n, other=0.0)
    cosine = tl.sum(x.to(tl.float32) * y.to(tl.float32), 1) * rx * ry
    tl.store(cosine_ptr + i, cosine, mask=i < n)


@triton.jit
def project_kernel(
    x_ptr, rx_ptr, gradient_ptr, factor_ptr, out_ptr, slope_ptr, n, d, stride_x, stride_out,
    BM: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Convert unit rows' gradients (n, d) to the raw rows', and write each row's slope.

    The slope is <unit row, gradient>: it projects off the radial part, and the sum of all slopes is
    d/d scale.
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.arange(0, D)
    inside = (i < n)[:, None] & (k < d)[None, :]
    rows = i.to(tl.int64)[:, None]
    rx = tl.load(rx_ptr + i, mask=i < n, other=0.0)
    x = tl.load(x_ptr + rows * stride_x + k[None, :], mask=inside, other=0.0)
    gradient = tl.load(gradient_ptr + rows * d + k[None, :], mask=inside, other=0.0)
    unit = x.to(tl.float32) * rx[:, None]
    slope = tl.sum(unit * gradient, 1)
    raw = (gradient - unit * slope[:, None]) * (rx * tl.load(factor_ptr))[:, None]
    tl.store(out_ptr + rows * stride_out + k[None, :], raw.to(out_ptr.dtype.element_ty), inside)
    tl.store(slope_ptr + i, slope, mask=i < n)


@triton.jit
def unit_kernel(
    x_ptr, rx_ptr, out_ptr, n, d, stride_x, BM: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Write the unit rows (n, d) in their own type."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.arange(0, D)
    inside = (i < n)[:, None] & (k < d)[None, :]
    rows = i.to(tl.int64)[:, None]
    x = tl.load(x_ptr + rows * stride_x + k[None, :], mask=inside, other=0.0).to(tl.float32)
    rx = tl.load(rx_ptr + i, mask=i < n, other=0.0)
    tl.store(
        out_ptr + rows * d + k[None, :], (x * rx[:, None]).to(out_ptr.dtype.element_ty), inside
    )


@triton.jit
def lse_kernel(
    sum_ptr, shift_ptr, share_ptr, lse_ptr, underflowed_ptr, lines, count, bar, BM: tl.constexpr
):  # fmt: skip
    """Add up the lines of sums (lines, count), and write their log2 minus the shift: float64.

    A sum with a share that may have lost terms is flagged: its log2 lies below the bar.
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    total = tl.zeros([BM], tl.float32)
    for line in range(lines):
        at = sum_ptr + tl.cast(line, tl.int64) * count + i
        total += tl.load(at, mask=i < count, other=0.0)
    some = total > 0
    log = tl.where(some, tl.log2(tl.where(some, total, 1.0).to(tl.float64)), float("-inf"))
    share = tl.load(share_ptr + i, mask=i < count, other=0.0)
    tl.store(lse_ptr + i, log - tl.load(shift_ptr).to(tl.float64), mask=i < count)
    tl.store(underflowed_ptr + i, ((log < bar) & (share > 0)).to(tl.int32), mask=i < count)


@triton.jit
def gain_kernel(
    lse_ptr, shift_ptr, share_ptr, log_ptr, gain_ptr, underflowed_ptr, count, bar, BM: tl.constexpr
):  # fmt: skip
    """Write from a log-sum-exp the shifted log and share / sum; a flag for each program's rows."""
    program = tl.program_id(0)
    i = program * BM + tl.arange(0, BM)
    lse = tl.load(lse_ptr + i, mask=i < count, other=0.0)
    share = tl.load(share_ptr + i, mask=i < count, other=0.0)
    log = lse + tl.load(shift_ptr).to(tl.float64)
    asks = share > 0
    gain = tl.where(asks, share * tl.exp2(tl.minimum(-log, 127.0)), 0.0)
    tl.store(log_ptr + i, log.to(tl.float32), mask=i < count)
    tl.store(gain_ptr + i, gain.to(tl.float32), mask=i < count)
    tl.store(underflowed_ptr + program, tl.max(((log < bar) & asks).to(tl.int32), 0))
