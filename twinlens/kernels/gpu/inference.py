"""The wrappers of the inference kernels: allocate, choose tiles, launch."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from twinlens.kernels.gpu.launch import Launch
from twinlens.kernels.gpu.softmax import similarity_kernel
from twinlens.kernels.gpu.topk import select_kernel, tile_maxima_kernel


def similarity(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax, or with a bias sigmoid, of scale * cosine in one launch: (n, m) float32."""
    launch = Launch.on(x.device)
    tile = launch.tile("softmax", x, y)
    out = torch.empty(len(x), len(y), dtype=torch.float32, device=x.device)
    similarity_kernel[(triton.cdiv(len(x), tile.BM),)](
        x, y, scale, scale if bias is None else bias, out,
        len(x), len(y), x.shape[1], x.stride(0), y.stride(0), out.stride(0),
        SIGMOID=bias is not None, **launch.options(tile, x),
    )  # fmt: skip
    return out


def topk(x: Tensor, y: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k likeliest of all classes, best first: probabilities (n, k), indices (n, k)."""
    launch = Launch.on(x.device)
    tile = launch.tile("topk", x, y)
    n, m, d = len(x), len(y), x.shape[1]
    tiles, bands = triton.cdiv(m, tile.BN), triton.cdiv(n, tile.BM)
    picks = min(k, tiles)
    splits = max(1, min(2 * launch.processors // bands, tiles))
    floats = {"dtype": torch.float32, "device": x.device}
    best = torch.empty(n, tiles, **floats)  # type: ignore[call-overload]
    top, total = torch.empty(2, n, splits, **floats)  # type: ignore[call-overload]
    options = launch.options(tile, x)
    tile_maxima_kernel[(bands, splits)](
        x, y, scale, best, top, total, n, m, d, x.stride(0), y.stride(0), tiles, **options
    )
    scratch = torch.empty(n, 2 * picks * tile.BN, **floats)  # type: ignore[call-overload]
    p = torch.empty(n, k, **floats)  # type: ignore[call-overload]
    index = torch.empty(n, k, dtype=torch.int64, device=x.device)
    select_kernel[(n,)](
        x, y, scale, best, top, total, scratch, p, index,
        m, d, x.stride(0), y.stride(0), tiles, splits, picks, k,
        BN=tile.BN, BK=tile.BK, SCAN=1024, SPLITS=triton.next_power_of_2(splits),
        num_warps=tile.warps,
    )  # fmt: skip
    return p, index
