"""The backward sweep: tiles of G = d loss / d logit, written out in chunks or used in registers.

A tile of G is e * (row gain + column gain) - positive * (row pull + column pull): one exponential
serves both directions. Only if some row underflowed (its constant-shift sum may have lost terms) do
all tiles take the longer formula with two exponentials; a flag on the device decides. For the
sigmoid, G needs no sums: value and G come from one exponential in one pass.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.tiles import (
    is_positive,
    is_seen,
    logit_tile,
    meets_diagonal,
    product_tile,
    product_tile_tma,
    pull_tile,
    softplus_and_sigmoid_in_bits,
)


@triton.jit
def softmax_gradient_tile(
    z, i, j, gain_i_ptr, gain_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    rows, columns, underflowed,
):  # fmt: skip
    """Return share * probability, over both directions, for a tile of shifted logits z."""
    if not underflowed:
        gain_i = tl.load(gain_i_ptr + i, mask=i < rows, other=0.0)
        gain_j = tl.load(gain_j_ptr + j, mask=j < columns, other=0.0)
        g = tl.exp2(z) * (gain_i[:, None] + gain_j[None, :])
    else:
        log_i = tl.load(log_i_ptr + i, mask=i < rows, other=float("inf"))
        log_j = tl.load(log_j_ptr + j, mask=j < columns, other=float("inf"))
        share_i = tl.load(share_i_ptr + i, mask=i < rows, other=0.0)
        share_j = tl.load(share_j_ptr + j, mask=j < columns, other=0.0)
        # Each is at most 1; hidden entries, or those beyond the end, may exceed every sum.
        by_i, by_j = tl.minimum(z - log_i[:, None], 1.0), tl.minimum(z - log_j[None, :], 1.0)
        g = tl.where(share_i[:, None] > 0, tl.exp2(by_i) * share_i[:, None], 0.0)
        g += tl.where(share_j[None, :] > 0, tl.exp2(by_j) * share_j[None, :], 0.0)
    return g


@triton.jit
def gradient_tile(
    z, i, j, gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
    share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
    n, m, rows, columns, offset, own_key_columns, underflowed,
    PLAIN: tl.constexpr, SIGMOID: tl.constexpr, LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr,
    OWN_KEYS: tl.constexpr, SWAP: tl.constexpr,
):  # fmt: skip
    """Return a tile's terms of the value (the sigmoid's alone) and its G, from its logits z.

    PLAIN: the tile holds no positive, nothing hidden and no column beyond the end. The sigmoid's
    logits and terms are in bits.
    """
    if not PLAIN:
        positive = is_positive(
            i, j, row_label_ptr, column_label_ptr, n, m, offset, LABELS, EXCLUDE_SELF, SWAP
        )
        seen = is_seen(
            i, j, row_label_ptr, column_label_ptr, n, m, offset, own_key_columns,
            LABELS, EXCLUDE_SELF, OWN_KEYS, SWAP,
        )  # fmt: skip
        positive = positive & seen
        pull = pull_tile(i, j, pull_i_ptr, pull_j_ptr, rows, columns)
    if SIGMOID:
        if PLAIN:
            value, g = softplus_and_sigmoid_in_bits(z)
        else:
            value, g = softplus_and_sigmoid_in_bits(tl.where(positive, -z, z))
            # -sigmoid(-z), not sigmoid(z) - 1, which would lose the digits of a well-fitted pair.
            g = tl.where(positive, -g * pull, g)
            value = tl.where(seen, tl.where(positive, value * pull, value), 0.0)
    else:
        g = softmax_gradient_tile(
            z, i, j, gain_i_ptr, gain_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
            rows, columns, underflowed,
        )  # fmt: skip
        value = g
        if not PLAIN:
            # Before any rounding to bfloat16: 0.999 - 1 of a well-fitted pair keeps its digits.
            g = tl.where(positive, g - pull, g)
    if not PLAIN:
        g = tl.where(seen, g, 0.0)
    return value, g


@triton.jit
def finish_tile(
    dots, g_desc, top, side, rx, row_shift, ry_ptr, g_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    row_label_ptr, column_label_ptr,
    boost_ptr, first, last, left, right, n, m, stride_g, offset, own_key_columns, underflowed,
    BM: tl.constexpr, BN: tl.constexpr, TMA: tl.constexpr, PARTS: tl.constexpr,
    PLAIN: tl.constexpr, SIGMOID: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
):  # fmt: skip
    """Convert a tile of products to G and write it; return its rows' sums of value and G.

    Processed in PARTS side by side: only one part occupies registers and shared memory.
    """
    if PARTS > 1:
        west, east = tl.split(tl.permute(tl.reshape(dots, (BM, 2, BN // 2)), (0, 2, 1)))
        value_west, total_west = finish_tile(
            west, g_desc, top, side, rx, row_shift, ry_ptr, g_ptr,
            gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
            share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
            boost_ptr, first, last, left, right, n, m, stride_g, offset, own_key_columns,
            underflowed, BM, BN // 2, TMA, PARTS // 2,
            PLAIN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS,
        )  # fmt: skip
        value_east, total_east = finish_tile(
            east, g_desc, top, side + BN // 2, rx, row_shift, ry_ptr, g_ptr,
            gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
            share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
            boost_ptr, first, last, left, right, n, m, stride_g, offset, own_key_columns,
            underflowed, BM, BN // 2, TMA, PARTS // 2,
            PLAIN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS,
        )  # fmt: skip
        value_sum, total_sum = value_west + value_east, total_west + total_east
    else:
        i, j = first + top + tl.arange(0, BM), left + side + tl.arange(0, BN)
        ry = tl.load(ry_ptr + j, mask=j < m, other=0.0)
        z = logit_tile(dots, rx, ry, row_shift)
        value, g = gradient_tile(
            z, i, j, gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
            share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
            last, right, n, m, offset, own_key_columns, underflowed,
            PLAIN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, False,
        )  # fmt: skip
        if g_ptr.dtype.element_ty == tl.float16:
            out = (g * tl.load(boost_ptr)).to(tl.float16)
        else:
            out = g.to(g_ptr.dtype.element_ty)
        if TMA:
            g_desc.store([top, side], out)
        else:
            at = g_ptr + (top + tl.arange(0, BM)).to(tl.int64)[:, None] * stride_g
            inside = (i < last)[:, None] & (j < right)[None, :]
            tl.store(at + (side + tl.arange(0, BN))[None, :], out, mask=inside)
        value_sum, total_sum = tl.sum(value, 1), tl.sum(g, 1)
    return value_sum, total_sum


@triton.jit
def write_tile(
    x_desc, y_desc, g_desc, top, side,
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, g_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    row_label_ptr, column_label_ptr,
    boost_ptr, first, last, left, right, n, m, d, stride_x, stride_y, stride_g,
    offset, own_key_columns, underflowed,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr, TMA: tl.constexpr,
    PARTS: tl.constexpr, PLAIN: tl.constexpr, SIGMOID: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write one tile of G; return its rows' sums of the value's terms and of G."""
    i = first + top + tl.arange(0, BM)
    rx = tl.load(rx_ptr + i, mask=i < n, other=0.0) * tl.load(factor_ptr)
    row_shift = tl.where(i < last, tl.load(shift_ptr), float("-inf"))
    if TMA:
        dots = product_tile_tma(
            x_desc, y_desc, first + top, left + side, d, BM, BN, BK, UP, PRECISION
        )
    else:
        j = left + side + tl.arange(0, BN)
        dots = product_tile(
            x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y, BM, BN, BK, EVEN_K, UP, PRECISION
        )
    return finish_tile(
        dots, g_desc, top, side, rx, row_shift, ry_ptr, g_ptr,
        gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
        share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
        boost_ptr, first, last, left, right, n, m, stride_g, offset, own_key_columns,
        underflowed, BM, BN, TMA, PARTS, PLAIN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS,
    )  # fmt: skip


@triton.jit
def gradient_chunk_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, g_ptr, value_ptr, total_ptr,
    gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr, share_i_ptr, share_j_ptr,
    underflowed_ptr, row_label_ptr, column_label_ptr,
    boost_ptr, first, last, left, right, n, m, d, stride_x, stride_y, stride_g,
    offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    EVEN_K: tl.constexpr, TMA: tl.constexpr, PARTS: tl.constexpr,
    SIGMOID: tl.constexpr, KEPT: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write G for rows first..last and columns left..right, in g's own type; float16 times boost.

    The sigmoid adds up value (P, BM) and total (P, BM), G's sum, one line for each of P programs.
    KEPT: the terms were kept, and this does nothing unless a row underflowed.

    A program makes every P-th tile. Tiles go in groups of GROUP bands, so that concurrent programs
    share rows and columns in L2. Plain tiles, nearly all, take a branch without masks, since
    registers are scarce in these kernels.
    """
    bands, across = tl.cdiv(last - first, BM), tl.cdiv(right - left, BN)
    tiles = bands * across
    underflowed = tl.load(underflowed_ptr) > 0
    if KEPT and not underflowed:
        tiles = 0
    x_desc, y_desc, g_desc = x_ptr, y_ptr, g_ptr
    if TMA:
        x_desc = tl.make_tensor_descriptor(x_ptr, [n, d], [stride_x, 1], [BM, BK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, d], [stride_y, 1], [BN, BK])
        g_desc = tl.make_tensor_descriptor(
            g_ptr, [last - first, right - left], [stride_g, 1], [BM, BN // PARTS]
        )
    values = tl.zeros([BM], tl.float32)
    totals = tl.zeros([BM], tl.float32)
    for work in range(tl.program_id(0), tiles, tl.num_programs(0)):
        group = work // (GROUP * across)
        height = min(bands - group * GROUP, GROUP)
        top = (group * GROUP + (work % (GROUP * across)) % height) * BM
        side = ((work % (GROUP * across)) // height) * BN
        special = meets_diagonal(first + top, left + side, offset, BM, BN)
        special = special | (left + side + BN > right)
        if OWN_KEYS:
            special = special | (left + side < own_key_columns)
        if LABELS or (special | underflowed):
            value, total = write_tile(
                x_desc, y_desc, g_desc, top, side,
                x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, g_ptr,
                gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
                share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
                boost_ptr, first, last, left, right, n, m, d, stride_x, stride_y, stride_g,
                offset, own_key_columns, underflowed, BM, BN, BK, EVEN_K, TMA, PARTS,
                False, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, UP, PRECISION,
            )  # fmt: skip
        else:
            value, total = write_tile(
                x_desc, y_desc, g_desc, top, side,
                x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, g_ptr,
                gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr, log_i_ptr, log_j_ptr,
                share_i_ptr, share_j_ptr, row_label_ptr, column_label_ptr,
                boost_ptr, first, last, left, right, n, m, d, stride_x, stride_y, stride_g,
                offset, own_key_columns, False, BM, BN, BK, EVEN_K, TMA, PARTS,
                True, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS, UP, PRECISION,
            )  # fmt: skip
        if SIGMOID:
            values += value
            totals += total
    if SIGMOID:
        line = tl.program_id(0) * BM + tl.arange(0, BM)
        tl.store(value_ptr + line, tl.load(value_ptr + line) + values)
        tl.store(total_ptr + line, tl.load(total_ptr + line) + totals)


@triton.jit
def gradient_kept_kernel(
    kept_ptr, g_ptr, own_ptr, shift_ptr, gain_i_ptr, gain_j_ptr, pull_i_ptr, pull_j_ptr,
    underflowed_ptr, boost_ptr, first, last, left, right, stride_kept, stride_g, offset,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write boost * G like the kernel above, from the exponentials that the forward kept.

    They are rounded; the positives' own, on the diagonal, are exact, from their shifted logits own
    (n,). Does nothing if a row underflowed: then the kernel above runs.
    """
    if tl.load(underflowed_ptr) == 0:
        top, side = tl.program_id(1) * BM, tl.program_id(0) * BN
        i, j = first + top + tl.arange(0, BM), left + side + tl.arange(0, BN)
        inside = (i < last)[:, None] & (j < right)[None, :]
        at = kept_ptr + i.to(tl.int64)[:, None] * stride_kept + j[None, :]
        e = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        gain_i = tl.load(gain_i_ptr + i, mask=i < last, other=0.0)
        gain_j = tl.load(gain_j_ptr + j, mask=j < right, other=0.0)
        if meets_diagonal(first + top, left + side, offset, BM, BN):
            own = tl.load(own_ptr + i, mask=i < last, other=0.0) + tl.load(shift_ptr)
            pull = pull_tile(i, j, pull_i_ptr, pull_j_ptr, last, right)
            positive = (i + offset)[:, None] == j[None, :]
            e = tl.where(positive, tl.exp2(own)[:, None], e)
            g = e * (gain_i[:, None] + gain_j[None, :])
            g = tl.where(positive, g - pull, g)
        else:
            g = e * (gain_i[:, None] + gain_j[None, :])
        out = (g * tl.load(boost_ptr)).to(g_ptr.dtype.element_ty)
        to = g_ptr + (top + tl.arange(0, BM)).to(tl.int64)[:, None] * stride_g
        tl.store(to + (side + tl.arange(0, BN))[None, :], out, mask=inside)
