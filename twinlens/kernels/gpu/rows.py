"""Kernels linear in the rows: what torch would do in ten passes over (n, d), in one each."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def own_cosine_kernel(
    x_ptr, y_ptr, rx_ptr, ry_ptr, cosine_ptr, n, d, stride_x, stride_y, offset,
    BM: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Write the cosine of each row i of x and row i + offset of y: float32."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.arange(0, D)
    inside = (i < n)[:, None] & (k < d)[None, :]
    x = tl.load(x_ptr + i.to(tl.int64)[:, None] * stride_x + k[None, :], mask=inside, other=0.0)
    own = (i + offset).to(tl.int64)[:, None]
    y = tl.load(y_ptr + own * stride_y + k[None, :], mask=inside, other=0.0)
    rx = tl.load(rx_ptr + i, mask=i < n, other=0.0)
    ry = tl.load(ry_ptr + i + offset, mask=i < n, other=0.0)
    cosine = tl.sum(x.to(tl.float32) * y.to(tl.float32), 1) * rx * ry
    tl.store(cosine_ptr + i, cosine, mask=i < n)


@triton.jit
def project_kernel(
    x_ptr, rx_ptr, gradient_ptr, factor_ptr, out_ptr, slope_ptr, n, d, stride_x, stride_out,
    BM: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Turn unit rows' gradients (n, d) into the raw rows', and write each row's slope.

    The slope is <unit row, gradient>: what points outwards is projected off by it, and the sum of
    all slopes is d/d scale.
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.arange(0, D)
    inside = (i < n)[:, None] & (k < d)[None, :]
    rows = i.to(tl.int64)[:, None]
    rx = tl.load(rx_ptr + i, mask=i < n, other=0.0)
    x = tl.load(x_ptr + rows * stride_x + k[None, :], mask=inside, other=0.0)
    gradient = tl.load(gradient_ptr + rows * d + k[None, :], mask=inside, other=0.0)
    unit = x.to(tl.float32) * rx[:, None]
    slope = tl.sum(unit * gradient, 1)
    raw = (gradient - unit * slope[:, None]) * (rx * tl.load(factor_ptr))[:, None]
    tl.store(out_ptr + rows * stride_out + k[None, :], raw.to(out_ptr.dtype.element_ty), inside)
    tl.store(slope_ptr + i, slope, mask=i < n)
