"""The public interface of the losses: one function, and five losses under their papers' names.

What must stay true: all are exact, need memory linear in the number of embeddings, normalise
inside, and have gradients by both sides, the scale and the bias. Embeddings may be float64,
float32, float16 or bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from twinlens.errors import InputError
from twinlens.kernels import eager, engines, matryoshka, ops
from twinlens.kernels.contrastive import Memory
from twinlens.kernels.pairs import Pairs

__all__ = [
    "Pairs",
    "clip_loss",
    "contrastive_loss",
    "matryoshka_loss",
    "moco_loss",
    "nt_xent_loss",
    "siglip_loss",
    "supcon_loss",
]

Number = Tensor | float


def contrastive_loss(
    x: Tensor,
    y: Tensor,
    scale: Number,
    pairs: Pairs | None = None,
    *,
    bias: Number | None = None,
    kind: Literal["softmax", "sigmoid"] = "softmax",
    symmetric: bool = True,
    engine: str = "auto",
    memory: Memory = "balanced",
) -> Tensor:
    """Return the contrastive loss of rows x (n, d) against columns y (m, d).

    `reference.contrastive_loss` is the specification. The logits are scale * cosine (+ bias, only
    with the sigmoid; it does not change a softmax). `pairs` defines the positives, by default the
    diagonal. `symmetric` averages the softmax over rows with that over columns.

    `memory` trades memory for time, never exactness. Beyond inputs and gradients a GPU needs, for
    64k x 512: "flat" about 0.3 GB, "balanced" less than 1 GB, "stored" also n * m numbers if they
    fit in 12 GB (a softmax with positives on the diagonal then saves one product of four; all else
    is as "balanced").
    """
    pairs = pairs or Pairs()
    _check(x, y, pairs, kind, bias)
    scale = _scalar(scale, x)
    masks = (
        pairs.row_labels,
        pairs.column_labels,
        pairs.offset,
        pairs.exclude_self,
        pairs.own_key_columns,
    )
    engines.check_memory(memory)
    value: Tensor
    shift = _find_shift(kind, bias, x)
    differentiates = _differentiates(*(t for t in (x, y, scale, shift) if t is not None))
    few = engines.takes_few_launches(engine, x, pairs) and not torch.compiler.is_compiling()
    if few and differentiates:
        value = eager.contrast(x, y, scale, shift, pairs, symmetric, engine, memory)
    elif shift is not None:
        value, *_ = ops.sigmoid_contrast(
            x, y, scale, shift, *masks, pairs.weigh_positives, engine, memory,
            differentiates, y.requires_grad,
        )  # fmt: skip
    else:
        value, *_ = ops.softmax_contrast(
            x, y, scale, *masks, symmetric, engine, memory, differentiates
        )
    return value


def clip_loss(x: Tensor, y: Tensor, scale: Number) -> Tensor:
    """Return CLIP's symmetric InfoNCE: row i of x belongs to row i of y.

    Radford et al. 2021, https://arxiv.org/abs/2103.00020.
    """
    return contrastive_loss(x, y, scale)


def siglip_loss(x: Tensor, y: Tensor, scale: Number, bias: Number) -> Tensor:
    """Return the sigmoid loss: each pair by itself, summed over all pairs, divided by n.

    Zhai et al. 2023, https://arxiv.org/abs/2303.15343.
    """
    return contrastive_loss(x, y, scale, bias=bias, kind="sigmoid")


def matryoshka_loss(
    x: Tensor,
    y: Tensor,
    scale: Number,
    widths: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    **settings: Any,
) -> Tensor:
    """Return the sum over widths of weight * the loss of the embeddings' first `width` numbers.

    Each prefix is normalised separately, so each can be used alone. Weights are 1 by default;
    settings are those of `contrastive_loss`. One pass over the pairs serves all prefixes, with the
    products and memory of one loss of the longest (`prefixes`). Under `torch.compile`, and in
    float16 on a GPU, they are computed one after another. Kusupati et al. 2022,
    https://arxiv.org/abs/2205.13147.
    """
    d = x.shape[-1]
    if not widths or list(widths) != sorted({w for w in widths if 0 < w <= d}):
        raise InputError(
            f"widths is {tuple(widths)}; give increasing numbers from 1 to {d}, the embeddings' "
            "width",
            field="widths",
        )
    weights = [1.0] * len(widths) if weights is None else weights
    if len(weights) != len(widths):
        raise InputError(
            f"weights has {len(weights)} numbers for {len(widths)} widths: give one for each",
            field="weights",
        )
    if len(widths) > 1 and matryoshka.suits(settings.get("engine", "auto"), x):
        return _contrast_prefixes(x, y, scale, widths, weights, **settings)
    terms = [
        weight * contrastive_loss(x[:, :width], y[:, :width], scale, **settings)
        for width, weight in zip(widths, weights, strict=True)
    ]
    return torch.stack(terms).sum()


def _contrast_prefixes(
    x: Tensor, y: Tensor, scale: Number, widths: Sequence[int], weights: Sequence[float],
    pairs: Pairs | None = None, *, bias: Number | None = None, kind: str = "softmax",
    symmetric: bool = True, engine: str = "auto", memory: Memory = "balanced",
) -> Tensor:  # fmt: skip
    pairs = pairs or Pairs()
    _check(x, y, pairs, kind, bias)
    engines.check_memory(memory)
    shift, scale = _find_shift(kind, bias, x), _scalar(scale, x)
    return matryoshka.contrast(
        x, y, scale, shift, widths, weights, pairs, symmetric, engine, memory
    )


def nt_xent_loss(first: Tensor, second: Tensor, scale: Number) -> Tensor:
    """Return SimCLR's loss: each of the 2n views against the 2n - 1 others. `scale` = 1 / T.

    Chen et al. 2020, https://arxiv.org/abs/2002.05709.
    """
    images = torch.arange(len(first), device=first.device)
    return supcon_loss(torch.cat([first, second]), images.repeat(2), scale)


def supcon_loss(views: Tensor, labels: Tensor, scale: Number) -> Tensor:
    """Return the supervised contrastive loss, with the mean over positives outside the log.

    Views without another of their label are candidates for others but no anchors. Khosla et al.
    2020, https://arxiv.org/abs/2004.11362.
    """
    pairs = Pairs(row_labels=labels, column_labels=labels, exclude_self=True)
    return contrastive_loss(views, views, scale, pairs, symmetric=False)


def moco_loss(queries: Tensor, keys: Tensor, queue: Tensor, scale: Number) -> Tensor:
    """Return MoCo's loss: query i against its own key (n, d) and the queue (k, d), no other key.

    He et al. 2019, https://arxiv.org/abs/1911.05722.
    """
    pairs = Pairs(own_key_columns=len(keys))
    return contrastive_loss(queries, torch.cat([keys, queue]), scale, pairs, symmetric=False)


def _differentiates(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in inputs)


def _find_shift(kind: str, bias: Number | None, x: Tensor) -> Tensor | None:
    """Return the sigmoid's bias; a softmax has none."""
    return None if kind == "softmax" else _scalar(0.0 if bias is None else bias, x)


def _scalar(value: Number, like: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        return torch.full((), value, dtype=wide, device=like.device)
    return value.reshape(())


def _check(x: Tensor, y: Tensor, pairs: Pairs, kind: str, bias: Number | None) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise InputError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; they must be (n, d) and (m, d)",
            field="x",
        )
    if x.dtype != y.dtype or x.device != y.device:
        raise InputError(
            f"x is {x.dtype} on {x.device} and y {y.dtype} on {y.device}; they must agree",
            field="y",
        )
    if kind not in ("softmax", "sigmoid"):
        raise InputError(f"kind is {kind!r}; it must be 'softmax' or 'sigmoid'", field="kind")
    if kind == "softmax" and bias is not None:
        raise InputError("a bias does not change a softmax: leave it out", field="bias")
    if kind == "softmax" and pairs.weigh_positives:
        raise InputError(
            "weigh_positives is for the sigmoid; a softmax takes the mean over a row's positives "
            "anyway: leave it out",
            field="weigh_positives",
        )
    pairs.check(len(x), len(y))
