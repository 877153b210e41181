"""What all Triton kernels share inside a tile: the product, hidden entries, positives.

Letters: rows i < n of x, columns j < m of y, width d; BM x BN is the tile, BK the step along d. The
interpreter multiplies bfloat16 wrongly: UP casts before the product there, and only there. What
must stay true: everything is in the subset that the interpreter runs (no libdevice, no inline
assembly), so that each kernel is tested without a GPU.
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
def logit_tile(dots, rx, ry, shift):
    """Return dots * rx * ry + shift, one shift a row: -inf there makes a row's terms zero."""
    return dots * ry[None, :] * rx[:, None] + shift[:, None]


@triton.jit
def meets_diagonal(i0, j0, offset, BM: tl.constexpr, BN: tl.constexpr):
    """Tell whether column i + offset of some row i lies in the tile that starts at (i0, j0)."""
    return (i0 + offset < j0 + BN) & (j0 < i0 + offset + BM)


@triton.jit
def pull_tile(i, j, pull_i_ptr, pull_j_ptr, rows, columns):
    """Return for each entry the pull that it has if it is a positive."""
    pull_i = tl.load(pull_i_ptr + i, mask=i < rows, other=0.0)
    pull_j = tl.load(pull_j_ptr + j, mask=j < columns, other=0.0)
    return pull_i[:, None] + pull_j[None, :]


@triton.jit
def log2_above_one(u):
    """Return log2(1 + u) for 0 <= u <= 1, with a relative error of 4e-7 for any small u.

    A polynomial: log2(1 + u) evaluated directly loses all of u below 1e-7, a row has thousands of
    such terms, and multiplications are cheaper than a logarithm and a division.
    """
    p = u * -0.01266535185277462 + 0.06490199267864227
    p = p * u - 0.15728679299354553
    p = p * u + 0.25748077034950256
    p = p * u - 0.35399213433265686
    p = p * u + 0.4801875352859497
    p = p * u - 0.7213212847709656
    return u * (p * u + 1.4426950216293335)


@triton.jit
def softplus_in_bits(z):
    """Return log2(1 + 2^z) to full float32 precision, for any z; 0 for -inf."""
    return tl.maximum(z, 0.0) + log2_above_one(tl.exp2(-tl.abs(z)))


@triton.jit
def softplus_and_sigmoid_in_bits(z):
    """Return log2(1 + 2^z) and 1 / (1 + 2^-z) from one exponential, without cancellation."""
    u = tl.exp2(-tl.abs(z))
    root = tl.rsqrt(1.0 + u)  # its square costs a third of a division
    return tl.maximum(z, 0.0) + log2_above_one(u), tl.where(z >= 0, 1.0, u) * (root * root)


@triton.jit
def sigmoid(z):
    """Return 1 / (1 + e^-z) without cancellation."""
    u = tl.exp2(-tl.abs(z) * 1.4426950408889634)
    return tl.where(z >= 0, 1.0, u) / (1.0 + u)


@triton.jit
def store_in_parts(desc, top, side, tile, BN: tl.constexpr, PARTS: tl.constexpr):
    """Store a tile by TMA in 1, 2 or 4 parts side by side, which share one small buffer."""
    BM: tl.constexpr = tile.shape[0]
    if PARTS == 1:
        desc.store([top, side], tile)
    else:
        halves = tl.permute(tl.reshape(tile, (BM, 2, BN // 2)), (0, 2, 1))
        left, right = tl.split(halves)
        store_in_parts(desc, top, side, left, BN // 2, PARTS // 2)
        store_in_parts(desc, top, side + BN // 2, right, BN // 2, PARTS // 2)
