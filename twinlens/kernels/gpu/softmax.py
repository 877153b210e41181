"""Zero-shot in one launch: norms, product, softmax (or sigmoid) of n embeddings against m classes.

A program owns BM rows. It writes logits while it sums them with a running maximum, then reads them
back from cache and turns them into probabilities: exact at any scale, the classes read once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from twinlens.kernels.gpu.tiles import sigmoid


@triton.jit
def similarity_kernel(
    x_ptr, y_ptr, scale_ptr, bias_ptr, out_ptr, n, m, d, stride_x, stride_y, stride_out,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    SIGMOID: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write softmax_j(scale * cosine_ij), or sigmoid(scale * cosine + bias): (n, m) float32."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    scale = tl.load(scale_ptr).to(tl.float32)
    top = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    out_rows = out_ptr + i.to(tl.int64)[:, None] * stride_out
    for start in range(0, m, BN):
        j = start + tl.arange(0, BN)
        cosine = cosine_tile(
            x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y, BM, BN, BK, UP, PRECISION
        )
        inside = (i < n)[:, None] & (j < m)[None, :]
        if SIGMOID:
            p = sigmoid(cosine * scale + tl.load(bias_ptr).to(tl.float32))
            tl.store(out_rows + j[None, :], p, mask=inside)
        else:
            z = cosine * (scale * 1.4426950408889634)
            z = tl.where((j < m)[None, :], z, float("-inf"))
            above = tl.maximum(top, tl.max(z, 1))
            total = total * tl.exp2(top - above) + tl.sum(tl.exp2(z - above[:, None]), 1)
            top = above
            tl.store(out_rows + j[None, :], z, mask=inside)
    if not SIGMOID:
        lse = top + tl.log2(total)
        # Other threads of this program wrote what is read next.
        tl.debug_barrier()
        for start in range(0, m, BN):
            j = start + tl.arange(0, BN)
            inside = (i < n)[:, None] & (j < m)[None, :]
            z = tl.load(out_rows + j[None, :], mask=inside, other=0.0)
            tl.store(out_rows + j[None, :], tl.exp2(z - lse[:, None]), mask=inside)


@triton.jit
def cosine_tile(
    x_ptr, y_ptr, i, j, n, m, d, stride_x, stride_y,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the cosines of a tile, the norms summed beside the product."""
    acc = tl.zeros([BM, BN], tl.float32)
    xx = tl.zeros([BM], tl.float32)
    yy = tl.zeros([BN], tl.float32)
    x_rows = x_ptr + i.to(tl.int64)[:, None] * stride_x
    y_rows = y_ptr + j.to(tl.int64)[None, :] * stride_y
    for start in range(0, d, BK):
        k = start + tl.arange(0, BK)
        x = tl.load(x_rows + k[None, :], mask=(i < n)[:, None] & (k < d)[None, :], other=0.0)
        y = tl.load(y_rows + k[:, None], mask=(j < m)[None, :] & (k < d)[:, None], other=0.0)
        xf, yf = x.to(tl.float32), y.to(tl.float32)
        xx += tl.sum(xf * xf, 1)
        yy += tl.sum(yf * yf, 0)
        if UP:
            x, y = xf, yf
        acc = tl.dot(x, y, acc, input_precision=PRECISION)
    # max(norm, 1e-12) as in reference; 1e-24 is the smallest square of such a norm.
    rx, ry = tl.rsqrt(tl.maximum(xx, 1e-24)), tl.rsqrt(tl.maximum(yy, 1e-24))
    return acc * rx[:, None] * ry[None, :]
