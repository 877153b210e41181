"""The k best of up to 1e7 classes with their exact probabilities, in two phases and without a sort.

Phase 1 reads the classes once and keeps, per row, the best logit of each tile of BN classes and the
log-sum-exp. The k best classes lie in the k tiles with the best maxima (ties to the lower index: if
a wanted class were elsewhere, each of the k tiles would hold a better one). Phase 2 scores only
those k * BN classes again and selects.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.softmax import invert_norm


@triton.jit(do_not_specialize=["n", "m", "tiles"])
def tile_maxima_kernel(
    x_ptr, y_ptr, scale_ptr, best_ptr, top_ptr, total_ptr, n, m, d, stride_x, stride_y, tiles,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
    ROWS: tl.constexpr, TMA: tl.constexpr, WAIT: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write best (n, tiles), and per split (n, S) the maximum and its sum. Grid (., S).

    BM queries, BN classes. The classes are the rows of the product, so that the matrix units
    process many of them for any number of queries. Tiles and their steps along d are one loop:
    loads prefetch across the tiles' borders. ROWS: BK holds whole embeddings, and the queries stay
    loaded.
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    split, splits = tl.program_id(1), tl.num_programs(1)
    each = tl.cdiv(tiles, splits)
    first = split * each
    steps = tl.cdiv(d, BK)
    factor = tl.load(scale_ptr).to(tl.float32) * 1.4426950408889634
    factor = factor * invert_norms(x_ptr, i, n, d, stride_x, BM, BK)
    if ROWS:
        kept = load_block(x_ptr, i, tl.arange(0, BK), n, d, stride_x, False, UP)
    if TMA:
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, d], [stride_y, 1], [BN, BK])
    top = tl.full([BM], -1e30, tl.float32)
    total = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BN, BM], tl.float32)
    yy = tl.zeros([BN, BK // 8], tl.float32)  # in groups of eight, which lie in one thread
    for step in range(0, (min(first + each, tiles) - first) * steps):
        tile = first + step // steps
        start = (step % steps) * BK
        j = tile * BN + tl.arange(0, BN)
        k = start + tl.arange(0, BK)
        if TMA:
            y = y_desc.load([tile * BN, start])
        else:
            y = load_block(y_ptr, j, k, m, d, stride_y, EVEN_K, False)
        queries = kept if ROWS else load_block(x_ptr, i, k, n, d, stride_x, EVEN_K, UP)
        yf = y.to(tl.float32)
        yy += tl.sum(tl.reshape(yf * yf, [BN, BK // 8, 8]), 2)
        if UP:
            y = yf
        part = tl.dot(y, queries.T, input_precision=PRECISION)
        if WAIT:  # for the product, on Hopper; see `cosine_tile`
            acc = tl.where(start == 0, 0.0, acc) + part
        else:
            acc += part
        if start + BK >= d:
            z = acc * invert_norm(tl.sum(yy, 1))[:, None] * factor[None, :]
            z = tl.where((j < m)[:, None], z, -1e30)
            best = tl.max(z, 0)
            tl.store(best_ptr + i.to(tl.int64) * tiles + tile, best, mask=i < n)
            above = tl.maximum(top, best)
            total = total * tl.exp2(top - above) + tl.sum(tl.exp2(z - above[None, :]), 0)
            top = above
            acc = tl.zeros([BN, BM], tl.float32)
            yy = tl.zeros([BN, BK // 8], tl.float32)
    tl.store(top_ptr + i * splits + split, top, mask=i < n)
    tl.store(total_ptr + i * splits + split, total, mask=i < n)


@triton.jit
def invert_norms(
    rows_ptr, i, count, d, stride, ROWS: tl.constexpr, BK: tl.constexpr
):  # fmt: skip
    """Return the inverse norms of rows i."""
    squares = tl.zeros([ROWS, BK], tl.float32)
    for start in range(0, d, BK):
        x = load_block(rows_ptr, i, start + tl.arange(0, BK), count, d, stride, False, True)
        squares += x * x
    return invert_norm(tl.sum(squares, 1))


@triton.jit
def load_block(rows_ptr, i, k, count, d, stride, EVEN_K: tl.constexpr, UP: tl.constexpr):
    """Return columns k of rows i, zero where there are none; float32 if UP."""
    at = rows_ptr + i.to(tl.int64)[:, None] * stride + k[None, :]
    if EVEN_K:
        block = tl.load(at, mask=(i < count)[:, None], other=0.0)
    else:
        block = tl.load(at, mask=(i < count)[:, None] & (k < d)[None, :], other=0.0)
    if UP:
        block = block.to(tl.float32)
    return block


@triton.jit(do_not_specialize=["m", "tiles", "splits", "picks", "k"])
def select_kernel(
    x_ptr, y_ptr, scale_ptr, best_ptr, top_ptr, total_ptr, scratch_ptr, p_ptr, index_ptr,
    m, d, stride_x, stride_y, tiles, splits, picks, k,
    BN: tl.constexpr, BK: tl.constexpr, SCAN: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Write p (n, k) and index (n, k), best first, one row per program; best is overwritten.

    `picks` = min(k, tiles) tiles are scored again; scratch (n, 2 * picks * BN) holds their logits
    and behind them their classes as int32.
    """
    row = tl.program_id(0)
    best_row = best_ptr + row.to(tl.int64) * tiles
    length = picks * BN
    z_row = scratch_ptr + row.to(tl.int64) * 2 * length
    j_row = (z_row + length).to(tl.pointer_type(tl.int32))
    s = tl.arange(0, SPLITS)
    tops = tl.load(top_ptr + row * splits + s, mask=s < splits, other=-1e30)
    totals = tl.load(total_ptr + row * splits + s, mask=s < splits, other=0.0)
    top = tl.max(tops, 0)
    lse = top + tl.log2(tl.sum(totals * tl.exp2(tops - top), 0))
    factor = tl.load(scale_ptr).to(tl.float32) * 1.4426950408889634
    xx = tl.zeros([BK], tl.float32)
    for start in range(0, d, BK):
        c = start + tl.arange(0, BK)
        x = tl.load(x_ptr + row.to(tl.int64) * stride_x + c, mask=c < d, other=0.0).to(tl.float32)
        xx += x * x
    factor = factor * invert_norm(tl.sum(xx, 0))
    for pick in range(0, picks):
        tile = find_best(best_row, tiles, SCAN)
        tl.store(best_row + tile, float("-inf"))
        tl.debug_barrier()
        j = tile * BN + tl.arange(0, BN)
        dots = tl.zeros([BN], tl.float32)
        yy = tl.zeros([BN], tl.float32)
        for start in range(0, d, BK):
            c = start + tl.arange(0, BK)
            x = tl.load(x_ptr + row.to(tl.int64) * stride_x + c, mask=c < d, other=0.0).to(
                tl.float32
            )
            y = tl.load(
                y_ptr + j.to(tl.int64)[:, None] * stride_y + c[None, :],
                mask=(j < m)[:, None] & (c < d)[None, :], other=0.0,
            ).to(tl.float32)  # fmt: skip
            dots += tl.sum(x[None, :] * y, 1)
            yy += tl.sum(y * y, 1)
        z = dots * factor * invert_norm(yy)
        tl.store(z_row + pick * BN + tl.arange(0, BN), tl.where(j < m, z, float("-inf")))
        tl.store(j_row + pick * BN + tl.arange(0, BN), j)
    tl.debug_barrier()
    for pick in range(0, k):
        at = find_best_class(z_row, j_row, length, BN)
        tl.store(p_ptr + row * k + pick, tl.exp2(tl.load(z_row + at) - lse))
        tl.store(index_ptr + row.to(tl.int64) * k + pick, tl.load(j_row + at).to(tl.int64))
        tl.debug_barrier()
        tl.store(z_row + at, float("-inf"))
        tl.debug_barrier()


@triton.jit
def find_best(values_ptr, length, SCAN: tl.constexpr):
    """Return the index of the largest of `length` values, the first among equals."""
    top = tl.full([SCAN], float("-inf"), tl.float32)
    where = tl.full([SCAN], 2147483647, tl.int32)
    for start in range(0, length, SCAN):
        at = start + tl.arange(0, SCAN)
        value = tl.load(values_ptr + at, mask=at < length, other=float("-inf"))
        better = value > top
        where = tl.where(better, at, where)
        top = tl.where(better, value, top)
    peak = tl.max(top, 0)
    return tl.min(tl.where(top == peak, where, 2147483647), 0)


@triton.jit
def find_best_class(z_ptr, j_ptr, length, SCAN: tl.constexpr):
    """Return the index of the largest logit; among equals, that of the lowest class."""
    top = tl.full([SCAN], float("-inf"), tl.float32)
    where = tl.zeros([SCAN], tl.int32)
    least = tl.full([SCAN], 2147483647, tl.int32)
    for start in range(0, length, SCAN):
        at = start + tl.arange(0, SCAN)
        value = tl.load(z_ptr + at, mask=at < length, other=float("-inf"))
        j = tl.load(j_ptr + at, mask=at < length, other=2147483647)
        better = (value > top) | ((value == top) & (j < least))
        where = tl.where(better, at, where)
        least = tl.where(better, j, least)
        top = tl.where(better, value, top)
    peak = tl.max(top, 0)
    lowest = tl.min(tl.where(top == peak, least, 2147483647), 0)
    return tl.min(tl.where((top == peak) & (least == lowest), where, 2147483647), 0)
