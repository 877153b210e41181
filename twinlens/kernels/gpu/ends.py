"""The few launches at the two ends of a step whose positives lie on the diagonal.

Launches dominate a small batch, so each kernel here does all that its inputs allow:
`measure_kernel` everything of single rows, `gain_kernel` everything after a side's sums,
`value_kernel` the few scalars. The scalars of a step are factor, shift, whether a row underflowed
(above zero), and boost. What must stay true: sums are added in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.softmax import invert_norm
from twinlens.kernels.gpu.sweep import exact_lse_tile


@triton.jit
def measure_kernel(
    x_ptr, y_ptr, scale_ptr, bias_ptr, rx_ptr, ry_ptr, share_i_ptr, share_j_ptr, own_ptr,
    own_sum_ptr, scalar_ptr, n, m, d, stride_x, stride_y, offset, share_i, share_j, headroom, boost,
    BM: tl.constexpr, D: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    """Write norms, shares, the positives' logits and each program's sum of them, and the scalars.

    Programs of the rows come first, then those of the columns. Logits are in bits, unshifted.
    """
    factor = tl.load(scale_ptr).to(tl.float32) * 1.4426950408889634
    if SIGMOID:
        shift = tl.load(bias_ptr).to(tl.float32) * 1.4426950408889634
    else:
        shift = headroom - tl.abs(factor)
    program, bands = tl.program_id(0), tl.cdiv(n, BM)
    k = tl.arange(0, D)
    if program < bands:
        i = program * BM + tl.arange(0, BM)
        x = load_rows(x_ptr, i, k, n, d, stride_x)
        own = load_rows(y_ptr, tl.where(i < n, i + offset, m), k, m, d, stride_y)
        rx, ry = invert_norm(tl.sum(x * x, 1)), invert_norm(tl.sum(own * own, 1))
        cosine = tl.sum(x * own, 1) * rx * ry
        tl.store(rx_ptr + i, rx, mask=i < n)
        tl.store(share_i_ptr + i, tl.full([BM], 1.0, tl.float32) * share_i, mask=i < n)
        tl.store(own_ptr + i, cosine * factor, mask=i < n)
        tl.store(own_sum_ptr + program, tl.sum(cosine.to(tl.float64), 0) * factor)
        if program == 0:
            tl.store(scalar_ptr, factor)
            tl.store(scalar_ptr + 1, shift)
            tl.store(scalar_ptr + 2, 0.0)
            tl.store(scalar_ptr + 3, boost)
    else:
        j = (program - bands) * BM + tl.arange(0, BM)
        y = load_rows(y_ptr, j, k, m, d, stride_y)
        tl.store(ry_ptr + j, invert_norm(tl.sum(y * y, 1)), mask=j < m)
        owned = (j >= offset) & (j < offset + n)
        tl.store(share_j_ptr + j, tl.where(owned, share_j, 0.0), mask=j < m)


@triton.jit
def load_rows(rows_ptr, i, k, count, d, stride):
    """Return whole rows i in float32, zero beyond the end."""
    at = rows_ptr + i.to(tl.int64)[:, None] * stride + k[None, :]
    return tl.load(at, mask=(i < count)[:, None] & (k < d)[None, :], other=0.0).to(tl.float32)


@triton.jit
def gain_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, scalar_ptr, sum_ptr, share_ptr, log_ptr, gain_ptr,
    partial_ptr, flag_ptr, row_label_ptr, column_label_ptr,
    lines, n, m, d, stride_x, stride_y, offset, own_key_columns, bar,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, LINES: tl.constexpr,
    EVEN_K: tl.constexpr, LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    SWAP: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add up the lines of shifted sums (lines, rows); write their log2 and share / sum.

    Also write each program's sum of share * log-sum-exp, unshifted, and whether a row of it
    underflowed: such rows are summed again here, by the exact formula. SWAP: the rows here are the
    columns of the problem.
    """
    program = tl.program_id(0)
    i = program * BM + tl.arange(0, BM)
    rows = m if SWAP else n
    total = tl.zeros([BM], tl.float32)
    for start in range(0, lines, LINES):
        line = start + tl.arange(0, LINES)
        at = sum_ptr + line.to(tl.int64)[:, None] * rows + i[None, :]
        total += tl.sum(
            tl.load(at, mask=(line < lines)[:, None] & (i < rows)[None, :], other=0.0), 0
        )
    factor, shift = tl.load(scalar_ptr), tl.load(scalar_ptr + 1).to(tl.float64)
    share = tl.load(share_ptr + i, mask=i < rows, other=0.0)
    some, asks = total > 0, share > 0
    log = tl.where(some, tl.log2(tl.where(some, total, 1.0).to(tl.float64)), float("-inf"))
    underflowed = ((log < bar) & asks).to(tl.int32)
    flag = tl.max(underflowed, 0)
    if flag > 0:
        exact = exact_lse_tile(
            x_ptr, y_ptr, rx_ptr, ry_ptr, factor, row_label_ptr, column_label_ptr,
            i, n, m, d, stride_x, stride_y, offset, own_key_columns,
            BM, BN, BK, EVEN_K, LABELS, EXCLUDE_SELF, OWN_KEYS, SWAP, UP, PRECISION,
        )  # fmt: skip
        log = tl.where(underflowed > 0, exact + shift, log)
    gain = tl.where(asks, share * tl.exp2(tl.minimum(-log, 127.0)), 0.0)
    weighted = share * tl.where(asks, log - shift, 0.0)
    tl.store(log_ptr + i, log.to(tl.float32), mask=i < rows)
    tl.store(gain_ptr + i, gain.to(tl.float32), mask=i < rows)
    tl.store(partial_ptr + program, tl.sum(weighted, 0))
    tl.store(flag_ptr + program, flag.to(tl.float64))


@triton.jit
def value_kernel(
    partial_ptr, value_ptr, scalar_ptr, owns, sides, own_weight, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the softmax's loss from the programs' sums, and the flag of all of them."""
    attraction = sum_numbers(partial_ptr, owns, BLOCK)
    repulsion = sum_numbers(partial_ptr + owns, sides, BLOCK)
    flags = sum_numbers(partial_ptr + owns + sides, sides, BLOCK)
    value = 0.6931471805599453 * (repulsion - own_weight * attraction)
    tl.store(value_ptr, value.to(tl.float32))
    tl.store(scalar_ptr + 2, flags.to(tl.float32))


@triton.jit
def sigmoid_value_kernel(
    line_ptr, slope_ptr, value_ptr, by_scale_ptr, by_bias_ptr, lines, slopes, weight,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the sigmoid's loss and its gradients by scale and bias from the programs' sums."""
    value = sum_numbers(line_ptr, lines, BLOCK)
    total = sum_numbers(line_ptr + lines, lines, BLOCK)
    slope = sum_numbers(slope_ptr, slopes, BLOCK)
    tl.store(value_ptr, (value * 0.6931471805599453 * weight).to(value_ptr.dtype.element_ty))
    tl.store(by_bias_ptr, (total * weight).to(by_bias_ptr.dtype.element_ty))
    tl.store(by_scale_ptr, (slope * weight).to(by_scale_ptr.dtype.element_ty))


@triton.jit
def slope_kernel(slope_ptr, weight_ptr, out_ptr, count, BLOCK: tl.constexpr):
    """Write the weighted sum of the programs' slopes."""
    weight = tl.load(weight_ptr).to(tl.float32)
    tl.store(out_ptr, (sum_numbers(slope_ptr, count, BLOCK) * weight).to(out_ptr.dtype.element_ty))


@triton.jit
def sum_numbers(ptr, count, BLOCK: tl.constexpr):
    """Return the sum of `count` numbers, in float64 and always in the same order."""
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(ptr + at, mask=at < count, other=0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit
def units_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, out_ptr, n, m, d, stride_x, stride_y,
    BM: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Write the unit rows of x, followed by those of y: (n + m, d) in their own type."""
    program, bands = tl.program_id(0), tl.cdiv(n, BM)
    k = tl.arange(0, D)
    if program < bands:
        write_units(x_ptr, rx_ptr, out_ptr, program * BM + tl.arange(0, BM), k, n, d, stride_x)
    else:
        to = out_ptr + tl.cast(n, tl.int64) * d
        write_units(y_ptr, ry_ptr, to, (program - bands) * BM + tl.arange(0, BM), k, m, d, stride_y)


@triton.jit
def write_units(rows_ptr, norm_ptr, out_ptr, i, k, count, d, stride):
    """Write unit rows i."""
    unit = load_rows(rows_ptr, i, k, count, d, stride)
    unit = unit * tl.load(norm_ptr + i, mask=i < count, other=0.0)[:, None]
    at = out_ptr + i.to(tl.int64)[:, None] * d + k[None, :]
    tl.store(at, unit.to(out_ptr.dtype.element_ty), (i < count)[:, None] & (k < d)[None, :])


@triton.jit
def projections_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, dx_ptr, dy_ptr, scale_ptr, upstream_ptr, gx_ptr, gy_ptr,
    slope_ptr, n, m, d, stride_x, stride_y, stride_gx, stride_gy, unboost, weight,
    BM: tl.constexpr, D: tl.constexpr, UPSTREAM: tl.constexpr,
):  # fmt: skip
    """Convert unit rows' gradients to the raw rows', of x and then of y; write programs' slopes.

    The slope is <unit row, gradient>: it projects off the radial part, and the sum over x is d/d
    scale. `unboost` undoes a boost of the gradients.
    """
    factor = tl.load(scale_ptr).to(tl.float32) * weight
    if UPSTREAM:
        factor = factor * tl.load(upstream_ptr).to(tl.float32)
    program, bands = tl.program_id(0), tl.cdiv(n, BM)
    k = tl.arange(0, D)
    if program < bands:
        slope = write_projections(
            x_ptr, rx_ptr, dx_ptr, gx_ptr, program * BM + tl.arange(0, BM), k, n, d,
            stride_x, stride_gx, unboost, factor,
        )  # fmt: skip
        tl.store(slope_ptr + program, slope)
    else:
        write_projections(
            y_ptr, ry_ptr, dy_ptr, gy_ptr, (program - bands) * BM + tl.arange(0, BM), k, m, d,
            stride_y, stride_gy, unboost, factor,
        )  # fmt: skip


@triton.jit
def write_projections(
    rows_ptr, norm_ptr, gradient_ptr, out_ptr, i, k, count, d, stride, stride_out, unboost, factor
):  # fmt: skip
    """Write the raw gradients of rows i; return the sum of their slopes."""
    norm = tl.load(norm_ptr + i, mask=i < count, other=0.0)
    unit = load_rows(rows_ptr, i, k, count, d, stride) * norm[:, None]
    gradient = load_rows(gradient_ptr, i, k, count, d, d) * unboost
    slope = tl.sum(unit * gradient, 1)
    raw = (gradient - unit * slope[:, None]) * (norm * factor)[:, None]
    at = out_ptr + i.to(tl.int64)[:, None] * stride_out + k[None, :]
    tl.store(at, raw.to(out_ptr.dtype.element_ty), (i < count)[:, None] & (k < d)[None, :])
    return tl.sum(slope, 0)
