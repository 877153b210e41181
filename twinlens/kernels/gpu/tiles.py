"""What all Triton kernels share inside a tile: the product, who is hidden, who is a positive.

Letters: rows i < n of x, columns j < m of y, width d; BM x BN is the tile, BK the step along d.
Everything stays in the subset that the interpreter runs (no libdevice, no inline assembly), so that
each kernel is tested without a GPU. The interpreter multiplies bfloat16 wrongly: UP casts before
the product there, and only there.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product_tile(
    x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    EVEN_K: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return x[i] . y[j] for a tile: (BM, BN) float32. Rows beyond the end count as zero."""
    acc = tl.zeros([BM, BN], tl.float32)
    x_rows = x_ptr + i.to(tl.int64)[:, None] * stride_x
    y_rows = y_ptr + j.to(tl.int64)[None, :] * stride_y
    x_in, y_in = (i < n)[:, None], (j < m)[None, :]
    for start in range(0, d, BK):
        k = start + tl.arange(0, BK)
        if EVEN_K:
            x = tl.load(x_rows + k[None, :], mask=x_in, other=0.0)
            y = tl.load(y_rows + k[:, None], mask=y_in, other=0.0)
        else:
            x = tl.load(x_rows + k[None, :], mask=x_in & (k < d)[None, :], other=0.0)
            y = tl.load(y_rows + k[:, None], mask=y_in & (k < d)[:, None], other=0.0)
        if UP:
            x, y = x.to(tl.float32), y.to(tl.float32)
        acc = tl.dot(x, y, acc, input_precision=PRECISION)
    return acc


@triton.jit
def product_tile_tma(
    x_desc, y_desc, first_row, first_column, d,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the same product with both sides fetched by the tensor memory accelerator."""
    acc = tl.zeros([BM, BN], tl.float32)
    for start in range(0, d, BK):
        x = x_desc.load([first_row, start])
        y = y_desc.load([first_column, start])
        if UP:
            x, y = x.to(tl.float32), y.to(tl.float32)
        acc = tl.dot(x, y.T, acc, input_precision=PRECISION)
    return acc


@triton.jit
def is_positive(
    i, j, row_label_ptr, column_label_ptr, n, m, offset,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, SWAP: tl.constexpr,
):  # fmt: skip
    """Tell which entries of the tile are positives: (BM, BN). SWAP: i counts columns, j rows."""
    if SWAP:
        row, column = j[None, :], i[:, None]
    else:
        row, column = i[:, None], j[None, :]
    same = row + offset == column
    if LABELS:
        a = tl.load(row_label_ptr + row, mask=row < n, other=-1)
        b = tl.load(column_label_ptr + column, mask=column < m, other=-2)
        same = a == b
        if EXCLUDE_SELF:
            same = same & (row + offset != column)
    return same


@triton.jit
def is_seen(
    i, j, row_label_ptr, column_label_ptr, n, m, offset, own_key_columns,
    LABELS: tl.constexpr, EXCLUDE_SELF: tl.constexpr, OWN_KEYS: tl.constexpr, SWAP: tl.constexpr,
):  # fmt: skip
    """Tell which entries of the tile exist and are compared: (BM, BN)."""
    if SWAP:
        row, column = j[None, :], i[:, None]
    else:
        row, column = i[:, None], j[None, :]
    seen = (row < n) & (column < m)
    if EXCLUDE_SELF:
        seen = seen & (row + offset != column)
    if OWN_KEYS:
        own = is_positive(
            i, j, row_label_ptr, column_label_ptr, n, m, offset, LABELS, EXCLUDE_SELF, SWAP
        )
        seen = seen & (own | (column >= own_key_columns))
    return seen


@triton.jit
def softplus(z):
    """Return log(1 + e^z) to full float32 precision, for any z."""
    u = tl.exp2(-tl.abs(z) * 1.4426950408889634)
    w = 1.0 + u
    # log(w) alone forgets all of u below 1e-7, and a row has thousands of such terms.
    small = tl.where(
        w == 1.0, u, tl.log2(w) * 0.6931471805599453 * (u / tl.where(w == 1.0, 1.0, w - 1.0))
    )
    return tl.maximum(z, 0.0) + small


@triton.jit
def sigmoid(z):
    """Return 1 / (1 + e^-z) without a difference that loses digits."""
    u = tl.exp2(-tl.abs(z) * 1.4426950408889634)
    return tl.where(z >= 0, 1.0, u) / (1.0 + u)
