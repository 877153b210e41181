"""The backward for narrow embeddings: a band's gradient stays in registers, and G is never written.

Every tile is computed twice, once for each side.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.gradient import gradient_tile
from twinlens.kernels.gpu.tiles import logit_tile, product_tile


@triton.jit
def gradient_rows_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, dx_ptr, value_ptr, total_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    underflowed_ptr, row_label_ptr, column_label_ptr,
    boost_ptr, n, m, d, stride_x, stride_y, stride_dx, offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, D: tl.constexpr,
    EVEN_K: tl.constexpr, SIGMOID: tl.constexpr, LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr,
    OWN_KEYS: tl.constexpr, SWAP: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write boost * (G y)_i for a band of rows, all d <= D columns of it in registers: float32.

    Nothing of size n x m is written, but every tile is computed twice (SWAP for the other side):
    for batches whose chunk would be too large, and narrow embeddings.
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    width = tl.arange(0, D)
    rows = m if SWAP else n
    columns = n if SWAP else m
    rx = tl.load(rx_ptr + i, mask=i < rows, other=0.0) * tl.load(factor_ptr)
    row_shift = tl.where(i < rows, tl.load(shift_ptr), float("-inf"))
    boost = tl.load(boost_ptr)
    acc = tl.zeros([BM, D], tl.float32)
    values = tl.zeros([BM], tl.float32)
    totals = tl.zeros([BM], tl.float32)
    for start in range(0, columns, BN):
        j = start + tl.arange(0, BN)
        dots = product_tile(
            x_ptr, y_ptr, i, j, rows, columns, d, stride_x, stride_y,
            BM, BN, BK, EVEN_K, UP, PRECISION,
        )  # fmt: skip
        ry = tl.load(ry_ptr + j, mask=j < columns, other=0.0)
        z = logit_tile(dots, rx, ry, row_shift)
        value, g = gradient_tile(
            z, i, j, gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
            share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
            n, m, rows, columns, offset, own_key_columns, tl.load(underflowed_ptr) > 0,
            False, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, SWAP,
        )  # fmt: skip
        if SIGMOID:
            values += tl.sum(value, 1)
            totals += tl.sum(g, 1)
        g = g * (ry * boost)[None, :]
        y = tl.load(
            y_ptr + j.to(tl.int64)[:, None] * stride_y + width[None, :],
            mask=(j < columns)[:, None] & (width < d)[None, :], other=0.0,
        )  # fmt: skip
        if UP:
            y = y.to(tl.float32)
        acc = tl.dot(g.to(y.dtype), y, acc, input_precision=PRECISION)
    inside = (i < rows)[:, None] & (width < d)[None, :]
    tl.store(dx_ptr + i.to(tl.int64)[:, None] * stride_dx + width[None, :], acc, mask=inside)
    if SIGMOID:
        tl.store(value_ptr + i, values, mask=i < rows)
        tl.store(total_ptr + i, totals, mask=i < rows)
