"""The sweeps of several prefixes at once: products grow along the embedding, and are read on the way.

The product of a prefix is that of the next shorter one plus a segment's, so one walk along the
embedding gives all of them. In the backward each segment wants the sum of G over all prefixes that
hold it: tiles are left behind on the way in, and added up on the way back.

WIDTHS are the prefixes' ends. Vectors of a prefix k lie n (or m) numbers behind those of k - 1.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.gradient import gradient_tile
from twinlens.kernels.gpu.sweep import term_tile
from twinlens.kernels.gpu.tiles import logit_tile, meets_diagonal


@triton.jit
def add_segment(
    acc, x_desc, y_desc, x_ptr, y_ptr, first_row, first_column, i, j, n, m, stride_x, stride_y,
    k: tl.constexpr, WIDTHS: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
    TMA: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add to the tile the product of the columns by which prefix k is longer than the one before."""
    low: tl.constexpr = 0 if k == 0 else WIDTHS[k - 1]
    high: tl.constexpr = WIDTHS[k]
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
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, row_sum_ptr, column_sum_ptr,
    pull_i_ptr, pull_j_ptr, row_label_ptr, column_label_ptr,
    n, m, stride_x, stride_y, offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr, TMA: tl.constexpr,
    WIDTHS: tl.constexpr, COUNT: tl.constexpr, LINES: tl.constexpr,
    SIGMOID: tl.constexpr, COLUMNS: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum each prefix's terms as `sweep_kernel` does one's.

    Grid (P, S). row_sum (COUNT, S, n); column_sum (COUNT, P, m) only if COLUMNS. LINES is COUNT's
    next power of two.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    split, splits = tl.program_id(1), tl.num_programs(1)
    bands, columns_of = tl.cdiv(n, BM), tl.cdiv(tl.cdiv(m, BN), splits)
    factor, shift = tl.load(factor_ptr), tl.load(shift_ptr)
    line = tl.arange(0, LINES)[:, None]
    x_desc, y_desc = x_ptr, y_ptr
    if TMA:
        whole: tl.constexpr = WIDTHS[COUNT - 1]
        x_desc = tl.make_tensor_descriptor(x_ptr, [n, whole], [stride_x, 1], [BM, BK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, whole], [stride_y, 1], [BN, BK])
    for band in range(program, bands, programs):
        i = band * BM + tl.arange(0, BM)
        row_shift = tl.where(i < n, shift, float("-inf"))
        totals = tl.zeros([LINES, BM], tl.float32)
        written = m if band > program else 0  # of this program's lines, by earlier bands
        tl.debug_barrier()  # as in `sweep_kernel`
        for tile in range(split * columns_of, min((split + 1) * columns_of, tl.cdiv(m, BN))):
            j = tile * BN + tl.arange(0, BN)
            dots = tl.zeros([BM, BN], tl.float32)
            for k in tl.static_range(COUNT):
                dots = add_segment(
                    dots, x_desc, y_desc, x_ptr, y_ptr, band * BM, tile * BN, i, j, n, m,
                    stride_x, stride_y, k, WIDTHS, BK, EVEN_K, TMA, UP, PRECISION,
                )  # fmt: skip
                rx = tl.load(rx_ptr + k * n + i, mask=i < n, other=0.0) * factor
                ry = tl.load(ry_ptr + k * m + j, mask=j < m, other=0.0)
                e = term_tile(
                    logit_tile(dots, rx, ry, row_shift), i, j, band * BM, tile * BN,
                    pull_i_ptr + k * n, pull_j_ptr + k * m, row_label_ptr, column_label_ptr,
                    n, m, offset, own_key_columns,
                    BM, BN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS,
                )  # fmt: skip
                totals += tl.where(line == k, tl.sum(e, 1)[None, :], 0.0)
                if COLUMNS:
                    at = (k * programs + program).to(tl.int64) * m + j
                    before = tl.load(column_sum_ptr + at, mask=j < written, other=0.0)
                    tl.store(column_sum_ptr + at, before + tl.sum(e, 0), mask=j < m)
        at = (line * splits + split).to(tl.int64) * n + i[None, :]
        tl.store(row_sum_ptr + at, totals, mask=(line < COUNT) & (i < n)[None, :])


@triton.jit
def write_prefixes(
    dots, k: tl.constexpr, x_desc, y_desc, x_ptr, y_ptr, rx_ptr, ry_ptr, factor, row_shift,
    g_ptr, row_slope_ptr, column_slope_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    row_label_ptr, column_label_ptr, weight_ptr, top, side, first, last, left, right, n, m,
    stride_x, stride_y, stride_g, piece, bands, across, offset, own_key_columns, underflowed,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr, TMA: tl.constexpr,
    WIDTHS: tl.constexpr, COUNT: tl.constexpr, PLAIN: tl.constexpr, SIGMOID: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the tile's G of segments k and on; return that of k, and rows' sums of value and G.

    A segment's G is the sum of those of all prefixes that hold it, each times how much longer the
    unit rows of its prefix are than those of the whole.
    """
    i, j = first + top + tl.arange(0, BM), left + side + tl.arange(0, BN)
    dots = add_segment(
        dots, x_desc, y_desc, x_ptr, y_ptr, first + top, left + side, i, j, n, m,
        stride_x, stride_y, k, WIDTHS, BK, EVEN_K, TMA, UP, PRECISION,
    )  # fmt: skip
    rx = tl.load(rx_ptr + k * n + i, mask=i < n, other=0.0)
    ry = tl.load(ry_ptr + k * m + j, mask=j < m, other=0.0)
    value, g = gradient_tile(
        logit_tile(dots, rx * factor, ry, row_shift), i, j,
        gain_i_ptr + k * n, gain_j_ptr + k * m, pull_i_ptr + k * n, pull_j_ptr + k * m,
        log_i_ptr + k * n, log_j_ptr + k * m, share_i_ptr + k * n, share_j_ptr + k * m,
        row_label_ptr, column_label_ptr, n, m, last, right, offset, own_key_columns, underflowed,
        PLAIN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, False,
    )  # fmt: skip
    value_sum, total_sum = tl.sum(value, 1), tl.sum(g, 1)
    if SIGMOID:
        weight = tl.load(weight_ptr + k)
        g = g * weight
        value_sum, total_sum = value_sum * weight, total_sum * weight
    cosine = dots * rx[:, None] * ry[None, :]
    row_at = (k * across + side // BN).to(tl.int64) * (last - first) + top + tl.arange(0, BM)
    tl.store(row_slope_ptr + row_at, tl.sum(g * cosine, 1), mask=i < last)
    column_at = (k * bands + top // BM).to(tl.int64) * (right - left) + side + tl.arange(0, BN)
    tl.store(column_slope_ptr + column_at, tl.sum(g * cosine, 0), mask=j < right)
    whole_x = tl.load(rx_ptr + (COUNT - 1) * n + i, mask=i < n, other=1.0)
    whole_y = tl.load(ry_ptr + (COUNT - 1) * m + j, mask=j < m, other=1.0)
    g = g * (rx / whole_x)[:, None] * (ry / whole_y)[None, :]
    if k + 1 < COUNT:
        longer, value_rest, total_rest = write_prefixes(
            dots, k + 1, x_desc, y_desc, x_ptr, y_ptr, rx_ptr, ry_ptr, factor, row_shift,
            g_ptr, row_slope_ptr, column_slope_ptr,
            gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
            share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr, weight_ptr,
            top, side, first, last, left, right, n, m, stride_x, stride_y, stride_g, piece,
            bands, across, offset, own_key_columns, underflowed,
            BM, BN, BK, EVEN_K, TMA, WIDTHS, COUNT, PLAIN, SIGMOID,
            LABELS, EXCLUDE_SELF, OWN_KEYS, UP, PRECISION,
        )  # fmt: skip
        g += longer
        value_sum += value_rest
        total_sum += total_rest
    at = g_ptr + k * piece + (top + tl.arange(0, BM)).to(tl.int64)[:, None] * stride_g
    inside = (i < last)[:, None] & (j < right)[None, :]
    out = g.to(g_ptr.dtype.element_ty)
    tl.store(at + (side + tl.arange(0, BN))[None, :], out, mask=inside)
    return g, value_sum, total_sum


@triton.jit
def prefix_gradient_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, g_ptr, row_slope_ptr, column_slope_ptr,
    value_ptr, total_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    underflowed_ptr, row_label_ptr, column_label_ptr, weight_ptr,
    first, last, left, right, n, m, stride_x, stride_y, stride_g, piece, offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    EVEN_K: tl.constexpr, TMA: tl.constexpr, WIDTHS: tl.constexpr, COUNT: tl.constexpr,
    SIGMOID: tl.constexpr, LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write each segment's G for rows first..last and columns left..right, as `gradient_chunk_kernel`.

    Segment k's lies k * piece numbers behind the first's. Slopes, the sums of G * cosine of each
    prefix, go to row_slope (COUNT, tiles across, height) and column_slope (COUNT, bands, width).
    """
    bands, across = tl.cdiv(last - first, BM), tl.cdiv(right - left, BN)
    underflowed = tl.load(underflowed_ptr) > 0
    factor, shift = tl.load(factor_ptr), tl.load(shift_ptr)
    x_desc, y_desc = x_ptr, y_ptr
    if TMA:
        whole: tl.constexpr = WIDTHS[COUNT - 1]
        x_desc = tl.make_tensor_descriptor(x_ptr, [n, whole], [stride_x, 1], [BM, BK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, whole], [stride_y, 1], [BN, BK])
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
        row_shift = tl.where(first + top + tl.arange(0, BM) < last, shift, float("-inf"))
        dots = tl.zeros([BM, BN], tl.float32)
        if LABELS or (special | underflowed):
            _, value, total = write_prefixes(
                dots, 0, x_desc, y_desc, x_ptr, y_ptr, rx_ptr, ry_ptr, factor, row_shift,
                g_ptr, row_slope_ptr, column_slope_ptr,
                gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
                share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr, weight_ptr,
                top, side, first, last, left, right, n, m, stride_x, stride_y, stride_g, piece,
                bands, across, offset, own_key_columns, underflowed,
                BM, BN, BK, EVEN_K, TMA, WIDTHS, COUNT, False, SIGMOID,
                LABELS, EXCLUDE_SELF, OWN_KEYS, UP, PRECISION,
            )  # fmt: skip
        else:
            _, value, total = write_prefixes(
                dots, 0, x_desc, y_desc, x_ptr, y_ptr, rx_ptr, ry_ptr, factor, row_shift,
                g_ptr, row_slope_ptr, column_slope_ptr,
                gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
                share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr, weight_ptr,
                top, side, first, last, left, right, n, m, stride_x, stride_y, stride_g, piece,
                bands, across, offset, own_key_columns, False,
                BM, BN, BK, EVEN_K, TMA, WIDTHS, COUNT, True, SIGMOID,
                LABELS, EXCLUDE_SELF, OWN_KEYS, UP, PRECISION,
            )  # fmt: skip
        values += value
        totals += total
    line = tl.program_id(0) * BM + tl.arange(0, BM)
    if SIGMOID:
        tl.store(value_ptr + line, tl.load(value_ptr + line) + values)
        tl.store(total_ptr + line, tl.load(total_ptr + line) + totals)
