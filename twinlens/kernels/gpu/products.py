"""The library's matrix products, and the size of the pieces of G that they get.

What must stay true: products of 16-bit operands are accumulated in float32, in place: no partial
sum is rounded, and no addition needs its own pass.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Bytes of G at a time, by the public name of the trade-off.
CHUNK_BYTES = {"flat": 64 << 20, "balanced": 512 << 20, "stored": 512 << 20}
TALL = 4096  # rows of a piece: enough tiles of their gradient to fill a large GPU
LINE = 128  # the bytes of a row of G are a multiple of this


def multiply(out: Tensor, a: Tensor, b: Tensor, *, add: bool) -> None:
    """Write a @ b into out, or add it to out; out may be wider than the operands."""
    if out.dtype == a.dtype:
        torch.addmm(out, a, b, out=out) if add else torch.mm(a, b, out=out)
    elif a.is_cuda and add:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)
    elif a.is_cuda:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:  # torch has no such product on the CPU, where only tests run
        torch.addmm(out, a.to(out.dtype), b.to(out.dtype), beta=float(add), out=out)


def choose_piece(n: int, m: int, chunk_bytes: int, element_bytes: int) -> tuple[int, int]:
    """Return height and width of the pieces of G, (n, m) in all, of about `chunk_bytes` each.

    About square, since each piece costs reading and writing the float32 gradients of its rows and
    columns; the height is a power of two of at least `TALL`, so that its products fill whole waves.
    """
    line = LINE // element_bytes
    elements = chunk_bytes // element_bytes
    square = 1 << (math.isqrt(elements).bit_length() - 1)
    height = min(n, max(TALL, square))
    width = min(_round_up(m, line), max(line, elements // height // line * line))
    height = min(n, max(height, elements // width))
    return height, width


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
