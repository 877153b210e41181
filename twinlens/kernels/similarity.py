"""The public interface of inference: probabilities over classes, and the k best of many classes.

`reference` is the specification. On a GPU each is one or two fused launches. On the CPU plain torch
is fastest for probabilities, and the top k holds only one block of logits at a time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from twinlens.errors import InputError
from twinlens.kernels import reference
from twinlens.kernels.contrastive import LOG2_E, blocks
from twinlens.kernels.engines import suits_triton

TILE = 128  # classes whose best logit is kept together
BLOCK = 64 * TILE  # classes scored at once


def similarity_softmax(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return softmax over the m classes of scale * cosine: (n, m), float32 or better."""
    probabilities: Tensor = _softmax(x, y, scale)
    return probabilities


def similarity_sigmoid(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return sigmoid of scale * cosine + bias: (n, m), float32 or better."""
    probabilities: Tensor = _sigmoid(x, y, scale, bias)
    return probabilities


def similarity_topk(x: Tensor, y: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k likeliest classes, best first: probabilities (n, k), indices (n, k).

    The probabilities are those among all m classes, and carry no gradient. Equal
    classes come in the order of their index.
    """
    if not 1 <= k <= len(y):
        raise InputError(f"k is {k}; it must be between 1 and the {len(y)} classes", field="k")
    p, index = _topk(x.detach(), y.detach(), scale.detach(), k)
    return p, index


@torch.library.custom_op("twinlens::similarity_softmax", mutates_args=())
def _softmax(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    if suits_triton(x):
        from twinlens.kernels.gpu import inference

        return inference.similarity(x, y, scale, None)
    return reference.similarity_softmax(_widen(x), _widen(y), scale)


@torch.library.custom_op("twinlens::similarity_sigmoid", mutates_args=())
def _sigmoid(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    if suits_triton(x):
        from twinlens.kernels.gpu import inference

        return inference.similarity(x, y, scale, bias)
    return reference.similarity_sigmoid(_widen(x), _widen(y), scale, bias)


@torch.library.custom_op("twinlens::similarity_topk", mutates_args=())
def _topk(x: Tensor, y: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if suits_triton(x):
        from twinlens.kernels.gpu import inference

        return inference.topk(x, y, scale, k)
    return blocked_topk(_widen(x), y, scale, k)


def blocked_topk(x: Tensor, y: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k best in two phases: the best logit of each tile, then the k best tiles' classes.

    The k best classes lie in the k tiles with the best maxima, ties to the lower index: if a wanted
    class were elsewhere, each of those k tiles would hold a better one.
    """
    unit, s2 = F.normalize(x, dim=1), scale * LOG2_E
    best, lse = [], x.new_full((len(x),), -torch.inf)
    for block in blocks(len(y), BLOCK):
        z = (unit * s2) @ F.normalize(y[block].to(x.dtype), dim=1).T
        lse = torch.logaddexp2(lse, torch.logsumexp(z / LOG2_E, 1) * LOG2_E)
        padded = F.pad(z, (0, -z.shape[1] % TILE), value=-torch.inf)
        best.append(padded.view(len(x), -1, TILE).amax(2))
    order = torch.cat(best, 1).sort(dim=1, descending=True, stable=True).indices
    tiles = order[:, :k].sort(dim=1).values
    few = max(1, (1 << 24) // (tiles.shape[1] * TILE * x.shape[1]))  # 64 MB of candidates
    found = [_pick(unit[b] * s2, y, tiles[b], k) for b in blocks(len(x), few)]
    z, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return torch.exp2(z - lse[:, None]), index


def _pick(scaled: Tensor, y: Tensor, tiles: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best logits, in bits, and their classes among those of the tiles."""
    candidates = tiles[:, :, None] * TILE + torch.arange(TILE, device=y.device)
    candidates = candidates.flatten(1)
    rows = F.normalize(y[candidates.clamp_max(len(y) - 1)].to(scaled.dtype), dim=2)
    z = torch.einsum("nd,ncd->nc", scaled, rows).masked_fill_(candidates >= len(y), -torch.inf)
    z, at = z.sort(dim=1, descending=True, stable=True)
    return z[:, :k], candidates.gather(1, at[:, :k])


@_softmax.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return _widen(x).new_empty(len(x), len(y))


@_sigmoid.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return _widen(x).new_empty(len(x), len(y))


@_topk.register_fake
def _(x: Tensor, y: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    wide = _widen(x)
    return wide.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.int64)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs, output)


def _softmax_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
    x, y, scale, p = ctx.saved_tensors
    g = p * (upstream - (upstream * p).sum(1, keepdim=True))
    return _through_cosine(x, y, scale, g)


def _sigmoid_backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
    x, y, scale, bias, p = ctx.saved_tensors
    g = upstream * p * (1 - p)
    return *_through_cosine(x, y, scale, g), g.sum().to(bias.dtype)


def _through_cosine(x: Tensor, y: Tensor, scale: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients by x, y and scale from that by the logits."""
    u, v = F.normalize(_widen(x), dim=1), F.normalize(_widen(y), dim=1)
    du, dv = g @ v, g.T @ u
    slopes = (du * u).sum(1, keepdim=True), (dv * v).sum(1, keepdim=True)
    lengths = [_widen(t).norm(dim=1, keepdim=True).clamp_min(1e-12) for t in (x, y)]
    gx = scale * (du - u * slopes[0]) / lengths[0]
    gy = scale * (dv - v * slopes[1]) / lengths[1]
    return gx.to(x.dtype), gy.to(y.dtype), slopes[0].sum().to(scale.dtype)


_softmax.register_autograd(_softmax_backward, setup_context=_keep)
_sigmoid.register_autograd(_sigmoid_backward, setup_context=_keep)


def _widen(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
