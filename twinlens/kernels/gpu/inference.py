"""The wrappers of the inference kernels: choose a plan, allocate, launch.

Every launch may be captured in a CUDA graph: nothing asks the device, and all memory is torch's.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from twinlens.kernels.gpu.launch import Launch, provide_descriptor_memory
from twinlens.kernels.gpu.plans import Plan, TopkPlan, plan_similarity, plan_topk
from twinlens.kernels.gpu.softmax import (
    combine_kernel,
    inverse_norms_kernel,
    normalise_rows_kernel,
    score_kernel,
)
from twinlens.kernels.gpu.topk import select_kernel, tile_maxima_kernel

ROW = 8192  # logits of a row that one program holds at once
PART = 4096  # logits that one program finishes where rows are split


def similarity(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor | None, plan: Plan | None = None
) -> Tensor:
    """Return softmax, or with a bias sigmoid, of scale * cosine: (n, m) float32."""
    launch = Launch.on(x.device)
    out = torch.empty(len(x), len(y), dtype=torch.float32, device=x.device)
    if out.numel() == 0:
        return out
    plan = plan or plan_similarity(launch, x, y)
    norms = _measure(x, y) if plan.product != "inline" else (out, out)
    if plan.product == "library":
        _multiply(x, y, out)
        _normalise_rows(out, scale, bias, norms, dots=True)
        return out
    tile, bands = plan.tile, triton.cdiv(len(x), plan.tile.BM)
    tiles = triton.cdiv(len(y), tile.BN)
    splits = min(tiles, triton.cdiv(plan.waves * launch.processors, bands))
    whole = bias is None and tiles == 1
    partial = plan.partial and bias is None and not whole
    top, total = out.new_empty(2, len(x), splits if partial else 1)
    if plan.tma:
        provide_descriptor_memory()
    score_kernel[(bands, splits)](
        x, y, scale, scale if bias is None else bias, *norms, out, top, total,
        len(x), len(y), x.shape[1], x.stride(0), y.stride(0), out.stride(0),
        EVEN_K=x.shape[1] % tile.BK == 0, TMA=plan.tma, SIGMOID=bias is not None, WHOLE=whole,
        MEASURED=plan.product == "measured", PARTIAL=partial,
        **(launch.options(tile, x) | ({"PRECISION": plan.precision} if plan.precision else {})),
    )  # fmt: skip
    if partial:
        combine_kernel[(len(x), triton.cdiv(len(y), PART))](
            out, top, total, len(y), out.stride(0), splits,
            SPLITS=triton.next_power_of_2(splits), BLOCK=PART,
        )  # fmt: skip
    elif bias is None and not whole:
        _normalise_rows(out, scale, None, norms, dots=False)
    return out


def _measure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse norms of all rows of both."""
    rx, ry = torch.empty(len(x) + len(y), dtype=torch.float32, device=x.device).split(
        [len(x), len(y)]
    )
    rows = 16
    inverse_norms_kernel[(triton.cdiv(len(x), rows) + triton.cdiv(len(y), rows),)](
        x, y, rx, ry, len(x), len(y), x.shape[1], x.stride(0), y.stride(0),
        ROWS=rows, BK=min(128, triton.next_power_of_2(x.shape[1])),
    )  # fmt: skip
    return rx, ry


def _multiply(x: Tensor, y: Tensor, out: Tensor) -> None:
    """Write x y^T in float32, by the library."""
    if x.dtype == torch.float32:
        torch.mm(x, y.T, out=out)
    elif x.device.type == "cuda":
        torch.mm(x, y.T, out_dtype=torch.float32, out=out)
    else:
        torch.mm(x.float(), y.float().T, out=out)


def _normalise_rows(
    z: Tensor, scale: Tensor, bias: Tensor | None, norms: tuple[Tensor, Tensor], *, dots: bool
) -> None:
    block = min(ROW, triton.next_power_of_2(z.shape[1]))
    normalise_rows_kernel[(len(z),)](
        z, scale, scale if bias is None else bias, *norms, z.shape[1], z.stride(0),
        BLOCK=block, ONCE=z.shape[1] <= block, DOTS=dots, SIGMOID=bias is not None,
        num_warps=min(16, max(1, block // 512)),
    )  # fmt: skip


def topk(
    x: Tensor, y: Tensor, scale: Tensor, k: int, plan: TopkPlan | None = None
) -> tuple[Tensor, Tensor]:
    """Return the k likeliest of all classes, best first: probabilities (n, k), indices (n, k)."""
    launch = Launch.on(x.device)
    plan = plan or plan_topk(launch, x, y)
    tile, n, m, d = plan.tile, len(x), len(y), x.shape[1]
    tiles, bands = triton.cdiv(m, tile.BN), triton.cdiv(n, tile.BM)
    picks = min(k, tiles)
    splits = max(1, min(plan.waves * launch.processors // bands, tiles))
    floats = {"dtype": torch.float32, "device": x.device}
    best = torch.empty(n, tiles, **floats)  # type: ignore[call-overload]
    top, total = torch.empty(2, n, splits, **floats)  # type: ignore[call-overload]
    if plan.tma:
        provide_descriptor_memory()
    tile_maxima_kernel[(bands, splits)](
        x, y, scale, best, top, total, n, m, d, x.stride(0), y.stride(0), tiles,
        EVEN_K=d % tile.BK == 0, ROWS=d <= tile.BK, TMA=plan.tma, **launch.options(tile, x),
    )  # fmt: skip
    scratch = torch.empty(n, 2 * picks * tile.BN, **floats)  # type: ignore[call-overload]
    p = torch.empty(n, k, **floats)  # type: ignore[call-overload]
    index = torch.empty(n, k, dtype=torch.int64, device=x.device)
    select_kernel[(n,)](
        x, y, scale, best, top, total, scratch, p, index,
        m, d, x.stride(0), y.stride(0), tiles, splits, picks, k,
        BN=tile.BN, BK=plan.select_step, SCAN=plan.scan, SPLITS=triton.next_power_of_2(splits),
        num_warps=plan.select_warps,
    )  # fmt: skip
    return p, index
