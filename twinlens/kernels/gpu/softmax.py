"""Zero-shot: norms, product, softmax (or sigmoid) of n embeddings against m classes.

The classes are split over programs, so that few rows still fill a GPU. `score_kernel` writes logits
(probabilities at once if one tile holds all classes, or for a sigmoid); `normalise_rows_kernel`
converts each row to probabilities. For very long rows the first also keeps a maximum and a sum per
split, and `combine_kernel` uses them instead of another read. Logits are in bits: scale * cosine *
log2(e).

What must stay true: sums are added in a fixed order without atomics, so equal inputs give equal
bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.tiles import product_tile, product_tile_tma, sigmoid


@triton.jit(do_not_specialize=["n", "m"])
def score_kernel(
    x_ptr, y_ptr, scale_ptr, bias_ptr, rx_ptr, ry_ptr, out_ptr, top_ptr, total_ptr,
    n, m, d, stride_x, stride_y, stride_out,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
    TMA: tl.constexpr, CHAINED: tl.constexpr, SIGMOID: tl.constexpr, WHOLE: tl.constexpr,
    MEASURED: tl.constexpr, PARTIAL: tl.constexpr,
    UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write logits, or probabilities if SIGMOID or WHOLE (one tile holds all): (n, m) float32.

    Grid (bands of BM rows, S splits of the tiles). MEASURED: the inverse norms are given. PARTIAL:
    also write top (n, S), each split's maximum, and total (n, S), its sum of 2^(logit - top).
    CHAINED: the next launch may start while this one still runs, and waits by itself.
    """
    if CHAINED:
        tl.extra.cuda.gdc_launch_dependents()
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    split, splits = tl.program_id(1), tl.num_programs(1)
    tiles = tl.cdiv(m, BN)
    each = tl.cdiv(tiles, splits)
    scale = tl.load(scale_ptr).to(tl.float32)
    top = tl.full([BM], -1e30, tl.float32)
    total = tl.zeros([BM], tl.float32)
    out_rows = out_ptr + i.to(tl.int64)[:, None] * stride_out
    if TMA:
        x_desc = tl.make_tensor_descriptor(x_ptr, [n, d], [stride_x, 1], [BM, BK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [m, d], [stride_y, 1], [BN, BK])
    for tile in range(split * each, min((split + 1) * each, tiles)):
        j = tile * BN + tl.arange(0, BN)
        if MEASURED:
            if TMA:
                cosine = product_tile_tma(
                    x_desc, y_desc, tl.program_id(0) * BM, tile * BN, d, BM, BN, BK, UP, PRECISION
                )
            else:
                cosine = product_tile(
                    x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y,
                    BM, BN, BK, EVEN_K, UP, PRECISION,
                )  # fmt: skip
            rx = tl.load(rx_ptr + i, mask=i < n, other=0.0)
            ry = tl.load(ry_ptr + j, mask=j < m, other=0.0)
            cosine = cosine * rx[:, None] * ry[None, :]
        else:
            cosine = cosine_tile(
                x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y,
                BM, BN, BK, EVEN_K, UP, PRECISION,
            )  # fmt: skip
        inside = (i < n)[:, None] & (j < m)[None, :]
        if SIGMOID:
            value = sigmoid(cosine * scale + tl.load(bias_ptr).to(tl.float32))
        else:
            value = cosine * (scale * 1.4426950408889634)
        if WHOLE:
            value = tl.where((j < m)[None, :], value, -1e30)
            value = tl.exp2(value - tl.max(value, 1)[:, None])
            value = value / tl.sum(value, 1)[:, None]
        if PARTIAL:
            z = tl.where((j < m)[None, :], value, -1e30)
            above = tl.maximum(top, tl.max(z, 1))
            total = total * tl.exp2(top - above) + tl.sum(tl.exp2(z - above[:, None]), 1)
            top = above
        tl.store(out_rows + j[None, :], value, mask=inside)
    if PARTIAL:
        tl.store(top_ptr + i.to(tl.int64) * splits + split, top, mask=i < n)
        tl.store(total_ptr + i.to(tl.int64) * splits + split, total, mask=i < n)


@triton.jit(do_not_specialize=["m"])
def normalise_rows_kernel(
    z_ptr, scale_ptr, bias_ptr, rx_ptr, ry_ptr, m, stride,
    BLOCK: tl.constexpr, ONCE: tl.constexpr, CHAINED: tl.constexpr,
    DOTS: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    """Overwrite each row of logits by its probabilities, one row per program.

    ONCE: BLOCK holds the row. DOTS: z holds products of raw embeddings instead of logits. CHAINED:
    started early; wait for the launch before.
    """
    if CHAINED:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    z_row = z_ptr + row.to(tl.int64) * stride
    lane = tl.arange(0, BLOCK)
    factor, shift = 1.0, 0.0
    if DOTS:
        factor = tl.load(scale_ptr).to(tl.float32) * tl.load(rx_ptr + row)
        if SIGMOID:
            shift = tl.load(bias_ptr).to(tl.float32)
        else:
            factor = factor * 1.4426950408889634
    if SIGMOID:
        for start in range(0, m, BLOCK):
            z = load_logits(z_row, ry_ptr, start + lane, m, factor, DOTS) + shift
            tl.store(z_row + start + lane, sigmoid(z), mask=start + lane < m)
    elif ONCE:
        z = load_logits(z_row, ry_ptr, lane, m, factor, DOTS)
        e = tl.exp2(z - tl.max(z, 0))
        tl.store(z_row + lane, e / tl.sum(e, 0), mask=lane < m)
    else:
        top = tl.full([BLOCK], -1e30, tl.float32)
        total = tl.zeros([BLOCK], tl.float32)
        for start in range(0, m, BLOCK):
            z = load_logits(z_row, ry_ptr, start + lane, m, factor, DOTS)
            above = tl.maximum(top, z)
            total = total * tl.exp2(top - above) + tl.exp2(z - above)
            top = above
        peak = tl.max(top, 0)
        lse = peak + tl.log2(tl.sum(total * tl.exp2(top - peak), 0))
        for start in range(0, m, BLOCK):
            z = load_logits(z_row, ry_ptr, start + lane, m, factor, DOTS)
            tl.store(z_row + start + lane, tl.exp2(z - lse), mask=start + lane < m)


@triton.jit
def load_logits(z_row, ry_ptr, j, m, factor, DOTS: tl.constexpr):
    """Return the logits of a row at j; those beyond the end are far below all others."""
    z = tl.load(z_row + j, mask=j < m, other=0.0)
    if DOTS:
        z = z * factor * tl.load(ry_ptr + j, mask=j < m, other=0.0)
    return tl.where(j < m, z, -1e30)


@triton.jit(do_not_specialize=["m", "splits"])
def combine_kernel(
    z_ptr, top_ptr, total_ptr, m, stride, splits, SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Overwrite logits by probabilities, given the splits' maxima and sums. Grid (n, blocks)."""
    row = tl.program_id(0)
    s = tl.arange(0, SPLITS)
    tops = tl.load(top_ptr + row.to(tl.int64) * splits + s, mask=s < splits, other=-1e30)
    totals = tl.load(total_ptr + row.to(tl.int64) * splits + s, mask=s < splits, other=0.0)
    peak = tl.max(tops, 0)
    lse = peak + tl.log2(tl.sum(totals * tl.exp2(tops - peak), 0))
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = z_ptr + row.to(tl.int64) * stride + j
    tl.store(at, tl.exp2(tl.load(at, mask=j < m, other=0.0) - lse), mask=j < m)


@triton.jit(do_not_specialize=["n", "m"])
def inverse_norms_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, n, m, d, stride_x, stride_y,
    ROWS: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Write 1 / max(norm, 1e-12) of all rows of x (n,) and of y (m,), ROWS a program."""
    bands = tl.cdiv(n, ROWS)
    program = tl.program_id(0)
    if program < bands:
        measure_rows(x_ptr, rx_ptr, program, n, d, stride_x, ROWS, BK)
    else:
        measure_rows(y_ptr, ry_ptr, program - bands, m, d, stride_y, ROWS, BK)


@triton.jit
def measure_rows(rows_ptr, r_ptr, band, count, d, stride, ROWS: tl.constexpr, BK: tl.constexpr):
    """Write the inverse norms of one band of rows."""
    i = band * ROWS + tl.arange(0, ROWS)
    squares = tl.zeros([ROWS, BK], tl.float32)
    for start in range(0, d, BK):
        k = start + tl.arange(0, BK)
        inside = (i < count)[:, None] & (k < d)[None, :]
        value = tl.load(
            rows_ptr + i.to(tl.int64)[:, None] * stride + k[None, :], mask=inside, other=0.0
        ).to(tl.float32)
        squares += value * value
    tl.store(r_ptr + i, invert_norm(tl.sum(squares, 1)), mask=i < count)


@triton.jit
def cosine_tile(
    x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    EVEN_K: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the cosines of a tile, with the norms summed beside the product.

    The sum is written so that the program waits for each product. Otherwise Triton (3.6 to 3.9)
    lets a Hopper product run on while it refills the memory that the product still reads, because
    the norms, the other reader, are done with it. The interpreter cannot show this; a test reads
    the code.
    """
    acc = tl.zeros([BM, BN], tl.float32)
    xx = tl.zeros([BM, BK], tl.float32)  # summed over BK once, at the end: each reduction is slow
    yy = tl.zeros([BK, BN], tl.float32)
    x_rows = x_ptr + i.to(tl.int64)[:, None] * stride_x
    y_rows = y_ptr + j.to(tl.int64)[None, :] * stride_y
    for start in range(0, d, BK):
        k = start + tl.arange(0, BK)
        if EVEN_K:
            x = tl.load(x_rows + k[None, :], mask=(i < n)[:, None], other=0.0)
            y = tl.load(y_rows + k[:, None], mask=(j < m)[None, :], other=0.0)
        else:
            x = tl.load(x_rows + k[None, :], mask=(i < n)[:, None] & (k < d)[None, :], other=0.0)
            y = tl.load(y_rows + k[:, None], mask=(j < m)[None, :] & (k < d)[:, None], other=0.0)
        xf, yf = x.to(tl.float32), y.to(tl.float32)
        xx += xf * xf
        yy += yf * yf
        if UP:
            x, y = xf, yf
        part = tl.dot(x, y, input_precision=PRECISION)
        acc = tl.where(start == 0, 0.0, acc) + part  # see above
    return acc * invert_norm(tl.sum(xx, 1))[:, None] * invert_norm(tl.sum(yy, 0))[None, :]


@triton.jit
def invert_norm(squares):
    """Return 1 / max(norm, 1e-12), as in reference; 1e-24 is the square of the smallest norm."""
    return tl.rsqrt(tl.maximum(squares, 1e-24))
