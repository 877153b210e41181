"""The forward sweep: one pass over the n x m logits gives the sums of rows and of columns.

A program owns every P-th band of BM rows and runs along all columns of its split. It keeps its row
sums in registers and adds its column sums to its own line, so there are no atomics: the result has
the same bits each time, and the extra memory is (P * m + S * n) floats for P programs, S splits.
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
    softplus_in_bits,
    store_in_parts,
)


@triton.jit
def masked_softplus(
    z, i, j, pull_i_ptr, pull_j_ptr, row_label_ptr, column_label_ptr, n, m,
    offset, own_key_columns,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
):  # fmt: skip
    """Return softplus(-z) * pull for positives, softplus(z) for the rest, 0 for hidden entries."""
    seen = is_seen(
        i, j, row_label_ptr, column_label_ptr, n, m, offset, own_key_columns,
        LABELS, EXCLUDE_SELF, OWN_KEYS, False,
    )  # fmt: skip
    positive = seen & is_positive(
        i, j, row_label_ptr, column_label_ptr, n, m, offset, LABELS, EXCLUDE_SELF, False
    )
    terms = softplus_in_bits(tl.where(positive, -z, z))
    pull = pull_tile(i, j, pull_i_ptr, pull_j_ptr, n, m)
    return tl.where(seen, tl.where(positive, terms * pull, terms), 0.0)


@triton.jit
def term_tile(
    z, i, j, i0, j0, pull_i_ptr, pull_j_ptr, row_label_ptr, column_label_ptr, n, m,
    offset, own_key_columns, BM: tl.constexpr, BN: tl.constexpr, SIGMOID: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
):  # fmt: skip
    """Return the terms of the tile that starts at (i0, j0). Most tiles need no mask."""
    masked = j0 + BN > m
    if EXCLUDE_SELF or SIGMOID:
        masked = masked | meets_diagonal(i0, j0, offset, BM, BN)
    if OWN_KEYS:
        masked = masked | (j0 < own_key_columns)
    if SIGMOID:
        if LABELS or masked:
            e = masked_softplus(
                z, i, j, pull_i_ptr, pull_j_ptr, row_label_ptr, column_label_ptr, n, m,
                offset, own_key_columns, LABELS, EXCLUDE_SELF, OWN_KEYS,
            )  # fmt: skip
        else:
            e = softplus_in_bits(z)
    else:
        e = tl.exp2(z)
        if masked:
            seen = is_seen(
                i, j, row_label_ptr, column_label_ptr, n, m, offset, own_key_columns,
                LABELS, EXCLUDE_SELF, OWN_KEYS, False,
            )  # fmt: skip
            e = tl.where(seen, e, 0.0)
    return e


@triton.jit
def sweep_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, shift_ptr, row_sum_ptr, column_sum_ptr, kept_ptr,
    pull_i_ptr, pull_j_ptr, row_label_ptr, column_label_ptr,
    n, m, d, stride_x, stride_y, stride_kept, offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr, TMA: tl.constexpr,
    PARTS: tl.constexpr, SIGMOID: tl.constexpr, COLUMNS: tl.constexpr, KEEP: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum 2^(factor * cosine + shift), or the sigmoid's log2(1 + 2^-+(factor * cosine + shift)).

    Grid (P, S). row_sum (S, n); column_sum (P, m) only if COLUMNS. KEEP writes each term into kept
    (n, m) too, in its own type.
    """
    program, split = tl.program_id(0), tl.program_id(1)
    bands, columns_of = tl.cdiv(n, BM), tl.cdiv(tl.cdiv(m, BN), tl.num_programs(1))
    factor, shift = tl.load(factor_ptr), tl.load(shift_ptr)
    if TMA:
        x_desc = tl.make_tensor_descriptor(x_ptr, [n, d], [stride_x, 1], [BM, BK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, d], [stride_y, 1], [BN, BK])
        if KEEP:
            kept_desc = tl.make_tensor_descriptor(
                kept_ptr, [n, m], [stride_kept, 1], [BM, BN // PARTS]
            )
    for band in range(program, bands, tl.num_programs(0)):
        i = band * BM + tl.arange(0, BM)
        rx = tl.load(rx_ptr + i, mask=i < n, other=0.0) * factor
        row_shift = tl.where(i < n, shift, float("-inf"))
        total = tl.zeros([BM], tl.float32)
        written = m if band > program else 0  # of this program's line, by earlier bands
        # The threads that add to the column sums may not be those that stored the last band's.
        tl.debug_barrier()
        for tile in range(split * columns_of, min((split + 1) * columns_of, tl.cdiv(m, BN))):
            j = tile * BN + tl.arange(0, BN)
            if COLUMNS:  # loaded before the product, which hides the latency
                line = column_sum_ptr + program.to(tl.int64) * m + j
                before = tl.load(line, mask=j < written, other=0.0)
            if TMA:
                dots = product_tile_tma(
                    x_desc, y_desc, band * BM, tile * BN, d, BM, BN, BK, UP, PRECISION
                )
            else:
                dots = product_tile(
                    x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y,
                    BM, BN, BK, EVEN_K, UP, PRECISION,
                )  # fmt: skip
            ry = tl.load(ry_ptr + j, mask=j < m, other=0.0)
            z = logit_tile(dots, rx, ry, row_shift)
            e = term_tile(
                z, i, j, band * BM, tile * BN, pull_i_ptr, pull_j_ptr,
                row_label_ptr, column_label_ptr, n, m, offset, own_key_columns,
                BM, BN, SIGMOID, LABELS, EXCLUDE_SELF, OWN_KEYS,
            )  # fmt: skip
            total += tl.sum(e, 1)
            if COLUMNS:
                tl.store(line, before + tl.sum(e, 0), mask=j < m)
            if KEEP and TMA:
                kept = e.to(kept_ptr.dtype.element_ty)
                store_in_parts(kept_desc, band * BM, tile * BN, kept, BN, PARTS)
            elif KEEP:
                at = kept_ptr + i.to(tl.int64)[:, None] * stride_kept + j[None, :]
                inside = (i < n)[:, None] & (j < m)[None, :]
                tl.store(at, e.to(kept_ptr.dtype.element_ty), mask=inside)
        tl.store(row_sum_ptr + split.to(tl.int64) * n + i, total, mask=i < n)


@triton.jit
def underflowed_lse_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor_ptr, underflowed_ptr, lse_ptr,
    row_label_ptr, column_label_ptr, n, m, d, stride_x, stride_y, offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    SWAP: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Overwrite the log2-sum of the underflowed rows by the exact one, with a running maximum.

    It is always launched, so that the host need not wait for a flag; a band without an underflowed
    row ends at once. SWAP: the rows here are the columns of the problem.
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    rows = m if SWAP else n
    underflowed = tl.load(underflowed_ptr + i, mask=i < rows, other=0)
    if tl.max(underflowed, 0) > 0:
        lse = exact_lse_tile(
            x_ptr, y_ptr, rx_ptr, ry_ptr, tl.load(factor_ptr), row_label_ptr, column_label_ptr,
            i, n, m, d, stride_x, stride_y, offset, own_key_columns,
            BM, BN, BK, EVEN_K, LABELS, EXCLUDE_SELF, OWN_KEYS, SWAP, UP, PRECISION,
        )  # fmt: skip
        tl.store(lse_ptr + i, lse, mask=(i < rows) & (underflowed > 0))


@triton.jit
def exact_lse_tile(
    x_ptr, y_ptr, rx_ptr, ry_ptr, factor, row_label_ptr, column_label_ptr,
    i, n, m, d, stride_x, stride_y, offset, own_key_columns,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr,
    SWAP: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the log2-sum-exp of rows i by a running maximum: (BM,) float64."""
    rows = m if SWAP else n
    columns = n if SWAP else m
    rx = tl.load(rx_ptr + i, mask=i < rows, other=0.0) * factor
    top = tl.full([BM], -1e30, tl.float32)
    total = tl.zeros([BM], tl.float32)
    for start in range(0, columns, BN):
        j = start + tl.arange(0, BN)
        dots = product_tile(
            x_ptr, y_ptr, i, j, rows, columns, d, stride_x, stride_y,
            BM, BN, BK, EVEN_K, UP, PRECISION,
        )  # fmt: skip
        ry = tl.load(ry_ptr + j, mask=j < columns, other=0.0)
        seen = is_seen(
            i, j, row_label_ptr, column_label_ptr, n, m, offset, own_key_columns,
            LABELS, EXCLUDE_SELF, OWN_KEYS, SWAP,
        )  # fmt: skip
        z = tl.where(seen, dots * rx[:, None] * ry[None, :], -1e30)
        above = tl.maximum(top, tl.max(z, 1))
        terms = tl.where(seen, tl.exp2(z - above[:, None]), 0.0)
        total = total * tl.exp2(top - above) + tl.sum(terms, 1)
        top = above
    return top.to(tl.float64) + tl.log2(tl.where(total > 0, total, 1.0)).to(tl.float64)
