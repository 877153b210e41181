"""The sweeps of several prefixes at once: products accumulate along the embedding, by segment.

The product of a prefix is that of the next shorter one plus a segment's, so one pass along the
embedding gives all of them. In the backward each segment needs the sum of G over all prefixes that
contain it: tiles are stored on the way in, and added up on the way back.

WIDTHS are the prefixes' ends. Vectors of prefix k start n (or m) numbers after those of k - 1.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.gradient import gradient_tile
from twinlens.kernels.gpu.sweep import term_tile
from twinlens.kernels.gpu.tiles import logit_tile, meets_diagonal


@triton.jit
def add_segment(
    acc, x_desc, y_desc, x_ptr, y_ptr, end_ptr, k, first_row, first_column, i, j, n, m,
    stride_x, stride_y, BK: tl.constexpr, EVEN_K: tl.constexpr, TMA: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add to the tile the product of the columns in prefix k that are not in the one before."""
    low = tl.load(end_ptr + k - 1, mask=k > 0, other=0)
    high = tl.load(end_ptr + k)
    if EVEN_K:
        low = tl.multiple_of(low, BK)
    x_rows = x_ptr + i.to(tl.int64)[:, None] * stride_x
    y_rows = y_ptr + j.to(tl.int64)[None, :] * stride_y
    x_in, y_in = (i < n)[:, None], (j < m)[None, :]
    for start in range(low, high, BK):
        if TMA:
            x = x_desc.load([first_row, start])
            y = y_desc.load([first_column, start]).T
        else:
            at = start + tl.arange(0, BK)
            if EVEN_K:
                x = tl.load(x_rows + at[None, :], mask=x_in, other=0.0)
                y = tl.load(y_rows + at[:, None], mask=y_in, other=0.0)
            else:
                x = tl.load(x_rows + at[None, :], mask=x_in & (at < high)[None, :], other=0.0)
                y = tl.load(y_rows + at[:, None], mask=y_in & (at < high)[:, None], other=0.0)
        if UP:
            x, y = x.to(tl.float32), y.to(tl.float32)
        acc = tl.dot(x, y, acc, input_precision=PRECISION)
    return acc


@triton.jit
def prefix_sweep_kernel(
    x_ptr, y_ptr, end_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, row_sum_ptr, column_sum_ptr,
    pull_i_ptr, pull_j_ptr, row_label_ptr, column_label_ptr,
    count, n, m, d, stride_x, stride_y, offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr, TMA: tl.constexpr,
    LINES: tl.constexpr, COLUMNS: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum each prefix's terms of the softmax as `sweep_kernel` does one's.

    Grid (P, S). row_sum (count, S, n); column_sum (count, P, m) only if COLUMNS. LINES is the next
    power of two of count.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    split, splits = tl.program_id(1), tl.num_programs(1)
    bands, columns_of = tl.cdiv(n, BM), tl.cdiv(tl.cdiv(m, BN), splits)
    factor, shift = tl.load(factor_ptr), tl.load(shift_ptr)
    line = tl.arange(0, LINES)[:, None]
    x_desc, y_desc = x_ptr, y_ptr
    if TMA:
        x_desc = tl.make_tensor_descriptor(x_ptr, [n, d], [stride_x, 1], [BM, BK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, d], [stride_y, 1], [BN, BK])
    for band in range(program, bands, programs):
        i = band * BM + tl.arange(0, BM)
        row_shift = tl.where(i < n, shift, float("-inf"))
        totals = tl.zeros([LINES, BM], tl.float32)
        written = m if band > program else 0  # of this program's lines, by earlier bands
        tl.debug_barrier()  # as in `sweep_kernel`
        for tile in range(split * columns_of, min((split + 1) * columns_of, tl.cdiv(m, BN))):
            j = tile * BN + tl.arange(0, BN)
            dots = tl.zeros([BM, BN], tl.float32)
            for k in range(0, count):
                dots = add_segment(
                    dots, x_desc, y_desc, x_ptr, y_ptr, end_ptr, k, band * BM, tile * BN, i, j,
                    n, m, stride_x, stride_y, BK, EVEN_K, TMA, UP, PRECISION,
                )  # fmt: skip
                rx = tl.load(rx_ptr + k * n + i, mask=i < n, other=0.0) * factor
                ry = tl.load(ry_ptr + k * m + j, mask=j < m, other=0.0)
                e = term_tile(
                    logit_tile(dots, rx, ry, row_shift), i, j, band * BM, tile * BN,
                    pull_i_ptr, pull_j_ptr, row_label_ptr, column_label_ptr,
                    n, m, offset, own_key_columns, BM, BN, False, LABELS, EXCLUDE_SELF, OWN_KEYS,
                )  # fmt: skip
                totals += tl.where(line == k, tl.sum(e, 1)[None, :], 0.0)
                if COLUMNS:
                    at = tl.cast(k * programs + program, tl.int64) * m + j
                    before = tl.load(column_sum_ptr + at, mask=j < written, other=0.0)
                    tl.store(column_sum_ptr + at, before + tl.sum(e, 0), mask=j < m)
        at = (line * splits + split).to(tl.int64) * n + i[None, :]
        tl.store(row_sum_ptr + at, totals, mask=(line < count) & (i < n)[None, :])


@triton.jit
def write_prefixes(
    x_desc, y_desc, x_ptr, y_ptr, end_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr,
    g_ptr, row_slope_ptr, column_slope_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    row_label_ptr, column_label_ptr, weight_ptr, top, side, first, last, left, right, count, n, m,
    stride_x, stride_y, stride_g, piece, offset, own_key_columns, underflowed,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr, TMA: tl.constexpr,
    PLAIN: tl.constexpr, SIGMOID: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the tile's G of every segment; return rows' sums of the value's terms and of G.

    A segment's G is the sum over all prefixes that contain it, each times the ratio of the prefix's
    unit rows to those of the whole embedding.
    """
    i, j = first + top + tl.arange(0, BM), left + side + tl.arange(0, BN)
    bands, across = tl.cdiv(last - first, BM), tl.cdiv(right - left, BN)
    row_shift = tl.where(i < last, tl.load(shift_ptr), float("-inf"))
    whole_x = tl.load(rx_ptr + (count - 1) * n + i, mask=i < n, other=1.0)
    whole_y = tl.load(ry_ptr + (count - 1) * m + j, mask=j < m, other=1.0)
    to = g_ptr + (top + tl.arange(0, BM)).to(tl.int64)[:, None] * stride_g
    to = to + (side + tl.arange(0, BN))[None, :]
    inside = (i < last)[:, None] & (j < right)[None, :]
    values = tl.zeros([BM], tl.float32)
    totals = tl.zeros([BM], tl.float32)
    dots = tl.zeros([BM, BN], tl.float32)
    g = tl.zeros([BM, BN], tl.float32)
    for k in range(0, count):
        dots = add_segment(
            dots, x_desc, y_desc, x_ptr, y_ptr, end_ptr, k, first + top, left + side, i, j, n, m,
            stride_x, stride_y, BK, EVEN_K, TMA, UP, PRECISION,
        )  # fmt: skip
        rx = tl.load(rx_ptr + k * n + i, mask=i < n, other=0.0)
        ry = tl.load(ry_ptr + k * m + j, mask=j < m, other=0.0)
        value, g = gradient_tile(
            logit_tile(dots, rx * tl.load(factor_ptr), ry, row_shift), i, j,
            gain_i_ptr + k * n, gain_j_ptr + k * m, pull_i_ptr + k * n, pull_j_ptr + k * m,
            log_i_ptr + k * n, log_j_ptr + k * m, share_i_ptr + k * n, share_j_ptr + k * m,
            row_label_ptr, column_label_ptr, last, right, n, m, offset, own_key_columns,
            underflowed, PLAIN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, False,
        )  # fmt: skip
        if SIGMOID:
            weight = tl.load(weight_ptr + k)
            g = g * weight
            values += tl.sum(value, 1) * weight
            totals += tl.sum(g, 1)
        g = g * (rx / whole_x)[:, None] * (ry / whole_y)[None, :]
        slope = g * dots * whole_x[:, None] * whole_y[None, :]
        row_at = tl.cast(k * across + side // BN, tl.int64) * (last - first) + top
        tl.store(row_slope_ptr + row_at + tl.arange(0, BM), tl.sum(slope, 1), mask=i < last)
        column_at = tl.cast(k * bands + top // BM, tl.int64) * (right - left) + side
        tl.store(column_slope_ptr + column_at + tl.arange(0, BN), tl.sum(slope, 0), mask=j < right)
        tl.store(to + tl.cast(k, tl.int64) * piece, g.to(g_ptr.dtype.element_ty), mask=inside)
    tl.debug_barrier()
    for back in range(1, count):
        at = to + tl.cast(count - 1 - back, tl.int64) * piece
        g += tl.load(at, mask=inside, other=0.0).to(tl.float32)
        tl.store(at, g.to(g_ptr.dtype.element_ty), mask=inside)
    return values, totals


@triton.jit
def prefix_gradient_kernel(
    x_ptr, y_ptr, end_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr,
    g_ptr, row_slope_ptr, column_slope_ptr, value_ptr, total_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    underflowed_ptr, row_label_ptr, column_label_ptr, weight_ptr,
    first, last, left, right, count, n, m, d, stride_x, stride_y, stride_g, piece,
    offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    EVEN_K: tl.constexpr, TMA: tl.constexpr, SIGMOID: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write each segment's G for rows first..last and columns left..right.

    This is `gradient_chunk_kernel` for several prefixes. Segment k's G starts k * piece numbers
    after the first's. Slopes, the sums of G * cosine of each prefix, go to row_slope (count, tiles
    across, height) and column_slope (count, bands, width).
    """
    bands, across = tl.cdiv(last - first, BM), tl.cdiv(right - left, BN)
    underflowed = tl.load(underflowed_ptr) > 0
    x_desc, y_desc = x_ptr, y_ptr
    if TMA:
        x_desc = tl.make_tensor_descriptor(x_ptr, [n, d], [stride_x, 1], [BM, BK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, d], [stride_y, 1], [BN, BK])
    values = tl.zeros([BM], tl.float32)
    totals = tl.zeros([BM], tl.float32)
    for work in range(tl.program_id(0), bands * across, tl.num_programs(0)):
        group = work // (GROUP * across)
        height = min(bands - group * GROUP, GROUP)
        top = (group * GROUP + (work % (GROUP * across)) % height) * BM
        side = ((work % (GROUP * across)) // height) * BN
        special = meets_diagonal(first + top, left + side, offset, BM, BN)
        special = special | (left + side + BN > right)
        if OWN_KEYS:
            special = special | (left + side < own_key_columns)
        if LABELS or (special | underflowed):
            value, total = write_prefixes(
                x_desc, y_desc, x_ptr, y_ptr, end_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr,
                g_ptr, row_slope_ptr, column_slope_ptr,
                gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
                share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr, weight_ptr,
                top, side, first, last, left, right, count, n, m, stride_x, stride_y, stride_g,
                piece, offset, own_key_columns, underflowed, BM, BN, BK, EVEN_K, TMA,
                False, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, UP, PRECISION,
            )  # fmt: skip
        else:
            value, total = write_prefixes(
                x_desc, y_desc, x_ptr, y_ptr, end_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr,
                g_ptr, row_slope_ptr, column_slope_ptr,
                gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
                share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr, weight_ptr,
                top, side, first, last, left, right, count, n, m, stride_x, stride_y, stride_g,
                piece, offset, own_key_columns, False, BM, BN, BK, EVEN_K, TMA,
                True, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, UP, PRECISION,
            )  # fmt: skip
        values += value
        totals += total
    if SIGMOID:
        line = tl.program_id(0) * BM + tl.arange(0, BM)
        tl.store(value_ptr + line, tl.load(value_ptr + line) + values)
        tl.store(total_ptr + line, tl.load(total_ptr + line) + totals)
