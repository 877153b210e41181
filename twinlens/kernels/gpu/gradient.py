"""The backward sweep: tiles of G = d loss / d logit, written out in chunks or used in registers.

A tile of G is e * (row gain + column gain) - positive * (row pull + column pull): one exponential
serves both directions. Only if some row underflowed (its constant-shift sum may have lost terms)
do all tiles take the longer formula with two exponentials; a flag on the device decides.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.tiles import is_positive, is_seen, product_tile, sigmoid


@triton.jit
def gradient_tile(
    z, i, j, gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
    share_i_ptr, share_j_ptr, underflowed_ptr, row_label_ptr, column_label_ptr,
    n, m, rows, columns, offset, own_key_columns,
    SIGMOID: tl.constexpr, LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr,
    OWN_KEYS: tl.constexpr, SWAP: tl.constexpr,
):  # fmt: skip
    """Return G for a tile of shifted logits z, zero where nothing is compared."""
    positive = is_positive(
        i, j, row_label_ptr, column_label_ptr, n, m, offset, LABELS, EXCLUDE_SELF, SWAP
    )
    seen = is_seen(
        i, j, row_label_ptr, column_label_ptr, n, m, offset, own_key_columns,
        LABELS, EXCLUDE_SELF, OWN_KEYS, SWAP,
    )  # fmt: skip
    if SIGMOID:
        # -sigmoid(-z), not sigmoid(z) - 1: the difference would lose all digits of a solved pair.
        g = sigmoid(tl.where(positive, -z, z))
        g = tl.where(positive, -g, g)
    else:
        if tl.load(underflowed_ptr) > 0:
            log_i = tl.load(log_i_ptr + i, mask=i < rows, other=float("inf"))
            log_j = tl.load(log_j_ptr + j, mask=j < columns, other=float("inf"))
            share_i = tl.load(share_i_ptr + i, mask=i < rows, other=0.0)
            share_j = tl.load(share_j_ptr + j, mask=j < columns, other=0.0)
            z = tl.where(seen, z, -1e30)  # what is hidden may exceed every sum
            g = tl.where(share_i[:, None] > 0, tl.exp2(z - log_i[:, None]) * share_i[:, None], 0.0)
            g += tl.where(share_j[None, :] > 0, tl.exp2(z - log_j[None, :]) * share_j[None, :], 0.0)
        else:
            gain_i = tl.load(gain_i_ptr + i, mask=i < rows, other=0.0)
            gain_j = tl.load(gain_j_ptr + j, mask=j < columns, other=0.0)
            g = tl.exp2(z) * (gain_i[:, None] + gain_j[None, :])
        pull_i = tl.load(pull_i_ptr + i, mask=i < rows, other=0.0)
        pull_j = tl.load(pull_j_ptr + j, mask=j < columns, other=0.0)
        # Subtracted before any rounding to bfloat16: a solved pair's 0.999 - 1 keeps its digits.
        g = tl.where(positive, g - (pull_i[:, None] + pull_j[None, :]), g)
    return tl.where(seen, g, 0.0)


@triton.jit
def gradient_chunk_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, g_ptr, total_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    underflowed_ptr, row_label_ptr, column_label_ptr,
    boost_ptr, first, last, left, right, n, m, d, stride_x, stride_y, stride_g,
    offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    EVEN_K: tl.constexpr, SIGMOID: tl.constexpr, LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr,
    OWN_KEYS: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write boost * G for rows first..last and columns left..right, in g's own type.

    A program makes one tile. Tiles go in groups of GROUP bands, so that neighbours in time share
    rows and columns in L2.
    """
    program = tl.program_id(0)
    bands, across = tl.cdiv(last - first, BM), tl.cdiv(right - left, BN)
    group = program // (GROUP * across)
    height = min(bands - group * GROUP, GROUP)
    band = group * GROUP + (program % (GROUP * across)) % height
    tile = (program % (GROUP * across)) // height
    local = band * BM + tl.arange(0, BM)
    beside = tile * BN + tl.arange(0, BN)
    i, j = first + local, left + beside
    dots = product_tile(
        x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y, BM, BN, BK, EVEN_K, UP, PRECISION
    )
    rx = tl.load(rx_ptr + i, mask=i < n, other=0.0) * tl.load(factor_ptr)
    ry = tl.load(ry_ptr + j, mask=j < m, other=0.0)
    z = dots * rx[:, None] * ry[None, :] + tl.load(shift_ptr)
    g = gradient_tile(
        z, i, j, gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
        share_i_ptr, share_j_ptr, underflowed_ptr, row_label_ptr, column_label_ptr,
        n, m, n, m, offset, own_key_columns, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, False,
    )  # fmt: skip
    inside = (i < last)[:, None] & (j < right)[None, :]
    if SIGMOID:
        tl.store(total_ptr + program, tl.sum(tl.sum(tl.where(inside, g, 0.0), 1), 0))
    at = g_ptr + local.to(tl.int64)[:, None] * stride_g + beside[None, :]
    g = g * tl.load(boost_ptr)
    tl.store(at, g.to(g_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gradient_rows_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, dx_ptr, total_ptr,
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
    shift, boost = tl.load(shift_ptr), tl.load(boost_ptr)
    acc = tl.zeros([BM, D], tl.float32)
    total = tl.zeros([BM], tl.float32)
    for start in range(0, columns, BN):
        j = start + tl.arange(0, BN)
        dots = product_tile(
            x_ptr, y_ptr, i, j, rows, columns, d, stride_x, stride_y,
            BM, BN, BK, EVEN_K, UP, PRECISION,
        )  # fmt: skip
        ry = tl.load(ry_ptr + j, mask=j < columns, other=0.0)
        z = dots * rx[:, None] * ry[None, :] + shift
        g = gradient_tile(
            z, i, j, gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
            share_i_ptr, share_j_ptr, underflowed_ptr, row_label_ptr, column_label_ptr,
            n, m, rows, columns, offset, own_key_columns,
            SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, SWAP,
        )  # fmt: skip
        if SIGMOID:
            total += tl.sum(g, 1)
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
        tl.store(total_ptr + i, total, mask=i < rows)
