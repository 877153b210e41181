"""Host side of the inference kernels: choose a plan, allocate, launch.

What must stay true: every launch may be captured in a CUDA graph: the host never waits for the
device, and all memory is torch's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from twinlens.kernels.gpu.launch import Launch, divide_up, power_above, provide_descriptor_memory
from twinlens.kernels.gpu.plans import Plan, TopkPlan, plan_similarity, plan_topk, split_classes
from twinlens.kernels.gpu.softmax import (
    combine_kernel,
    inverse_norms_kernel,
    normalise_rows_kernel,
    score_kernel,
)
from twinlens.kernels.gpu.topk import select_kernel, tile_maxima_kernel

ROW = 8192  # logits of a row that one program holds at once
PART = 4096  # logits that one program normalises if rows are split
BAND = 16  # rows whose norms one program measures
FLOAT32 = (
    "tf32x3"  # three TF32 products of split operands: closer to the truth than a float32 product
)


class Given(NamedTuple):
    """The inputs: both sides, the scale, and for a sigmoid the bias."""

    x: Tensor
    y: Tensor
    scale: Tensor
    bias: Tensor | None

    @property
    def scalars(self) -> tuple[Tensor, Tensor]:
        """Return scale and bias, or a valid pointer if there is none."""
        return self.scale, self.scale if self.bias is None else self.bias


def similarity(
    x: Tensor, y: Tensor, scale: Tensor, bias: Tensor | None, plan: Plan | None = None
) -> Tensor:
    """Return softmax, or with a bias sigmoid, of scale * cosine: (n, m) float32."""
    launch, given = Launch.on(x.device), Given(x, y, scale, bias)
    out = torch.empty(len(x), len(y), dtype=torch.float32, device=x.device)
    if out.numel() == 0:
        return out
    plan = plan or plan_similarity(launch, x, y)
    norms = _measure(x, y) if plan.norms == "before" else (out, out)
    if plan.library:
        _multiply(x, y, out)
        _normalise_rows(out, given, norms, dots=True, chained=False)
    else:
        _score(launch, plan, given, norms, out)
    return out


def _score(
    launch: Launch, plan: Plan, given: Given, norms: tuple[Tensor, Tensor], out: Tensor
) -> None:
    x, y, _, bias = given
    tile = launch.tile(plan.tile, x, y)
    bands, splits = split_classes(launch, tile, *out.shape)
    whole = bias is None and len(y) <= tile.BN
    to_finish = bias is None and not whole
    partial, chained = plan.partial and to_finish, plan.chained and to_finish
    top, total = out.new_empty(2, len(x), splits if partial else 1)
    if plan.tma:
        provide_descriptor_memory()
    score_kernel[(bands, splits)](
        x, y, *given.scalars, *norms, out, top, total,
        len(x), len(y), x.shape[1], x.stride(0), y.stride(0), out.stride(0),
        EVEN_K=x.shape[1] % tile.BK == 0, TMA=plan.tma, CHAINED=chained,
        SIGMOID=bias is not None, WHOLE=whole, MEASURED=plan.norms == "before", PARTIAL=partial,
        **launch.options(tile, x, float32=FLOAT32),
    )  # fmt: skip
    if partial:
        combine_kernel[(len(x), divide_up(len(y), PART))](
            out, top, total, len(y), out.stride(0), splits,
            SPLITS=power_above(splits), BLOCK=PART,
        )  # fmt: skip
    elif to_finish:
        _normalise_rows(out, given, norms, dots=False, chained=chained)


def _measure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse norms of all rows of both."""
    both = torch.empty(len(x) + len(y), dtype=torch.float32, device=x.device)
    norms = both[: len(x)], both[len(x) :]
    inverse_norms_kernel[(divide_up(len(x), BAND) + divide_up(len(y), BAND),)](
        x, y, *norms, len(x), len(y), x.shape[1], x.stride(0), y.stride(0),
        ROWS=BAND, BK=min(128, power_above(x.shape[1])),
    )  # fmt: skip
    return norms


def _multiply(x: Tensor, y: Tensor, out: Tensor) -> None:
    """Write x y^T in float32, by the library."""
    if x.dtype == torch.float32:
        torch.mm(x, y.T, out=out)
    elif x.device.type == "cuda":
        torch.mm(x, y.T, out_dtype=torch.float32, out=out)
    else:
        torch.mm(x.float(), y.float().T, out=out)


def _normalise_rows(
    z: Tensor, given: Given, norms: tuple[Tensor, Tensor], *, dots: bool, chained: bool
) -> None:
    block = min(ROW, power_above(z.shape[1]))
    early = {"launch_pdl": True} if chained else {}
    normalise_rows_kernel[(len(z),)](
        z, *given.scalars, *norms, z.shape[1], z.stride(0), BLOCK=block,
        ONCE=z.shape[1] <= block, CHAINED=chained, DOTS=dots, SIGMOID=given.bias is not None,
        num_warps=min(16, max(1, block // 256)), **early,
    )  # fmt: skip


def topk(
    x: Tensor, y: Tensor, scale: Tensor, k: int, plan: TopkPlan | None = None
) -> tuple[Tensor, Tensor]:
    """Return the k likeliest of all classes, best first: probabilities (n, k), indices (n, k)."""
    launch = Launch.on(x.device)
    plan = plan or plan_topk(launch, x, y)
    tile, n, m, d = plan.tile, len(x), len(y), x.shape[1]
    tiles, bands = divide_up(m, tile.BN), divide_up(n, tile.BM)
    picks = min(k, tiles)
    splits = max(1, min(tile.blocks * launch.processors // bands, tiles))
    best = x.new_empty(n, tiles, dtype=torch.float32)
    top, total = x.new_empty(2, n, splits, dtype=torch.float32)
    if plan.tma:
        provide_descriptor_memory()
    tile_maxima_kernel[(bands, splits)](
        x, y, scale, best, top, total, n, m, d, x.stride(0), y.stride(0), tiles,
        EVEN_K=d % tile.BK == 0, ROWS=d <= tile.BK, TMA=plan.tma, WAIT=launch.is_hopper,
        **launch.options(tile, x, float32=FLOAT32),
    )  # fmt: skip
    scratch = x.new_empty(n, 2 * picks * tile.BN, dtype=torch.float32)
    p = x.new_empty(n, k, dtype=torch.float32)
    index = x.new_empty(n, k, dtype=torch.int64)
    select_kernel[(n,)](
        x, y, scale, best, top, total, scratch, p, index,
        m, d, x.stride(0), y.stride(0), tiles, splits, picks, k,
        BN=tile.BN, BK=plan.step, SCAN=plan.scan, SPLITS=power_above(splits),
        num_warps=plan.warps,
    )  # fmt: skip
    return p, index
