"""The specification: what every fast path computes, in plain torch, one full matrix at a time.

It is written to be read and to be compared with, never tuned. `oracle` gives the same in float64,
with gradients: the reference for all kernels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from twinlens.kernels.pairs import Pairs

Kind = Literal["softmax", "sigmoid"]


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Return the cosine of each row of x (n, d) with each row of y (m, d): (n, m)."""
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def similarity_softmax(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return softmax over the m classes of scale * cosine: (n, m). Zero-shot with CLIP."""
    return (scale * similarity(x, y)).softmax(1)


def similarity_sigmoid(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return sigmoid of scale * cosine + bias: (n, m). Zero-shot with SigLIP."""
    return (scale * similarity(x, y) + bias).sigmoid()


def similarity_topk(x: Tensor, y: Tensor, scale: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k likeliest classes, best first: probabilities (n, k), indices (n, k).

    Equal classes come in the order of their index.
    """
    p, index = similarity_softmax(x, y, scale).sort(dim=1, descending=True, stable=True)
    return p[:, :k], index[:, :k]


def contrastive_loss(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs | None = None,
    *,
    bias: Tensor | None = None,
    kind: Kind = "softmax",
    symmetric: bool = True,
) -> Tensor:
    """Return the contrastive loss of rows x (n, d) against columns y (m, d).

    With logits s = scale * cosine (+ bias):

    - softmax: the mean over rows that have a positive of  logsumexp_j s_ij - mean_{j in P(i)} s_ij,
      over the columns that the row sees; `symmetric` averages it with the same over columns.
    - sigmoid: the sum over seen pairs of softplus(-s) for positives and softplus(s) for the rest,
      divided by n; with `weigh_positives`, positives times (1/k + 1/k') / 2.
    """
    pairs = pairs or Pairs()
    logits = scale * similarity(x, y) + (0.0 if bias is None else bias)
    rows = torch.arange(len(x), device=x.device)[:, None]
    columns = torch.arange(len(y), device=x.device)[None, :]
    positive, hidden = pairs.positive(rows, columns), pairs.hidden(rows, columns)
    if kind == "sigmoid":
        terms = F.softplus(torch.where(positive, -logits, logits), threshold=60.0)
        if pairs.weigh_positives:
            by_row, by_column = (1 / positive.sum(k).clamp_min(1).to(terms.dtype) for k in (1, 0))
            weights = (by_row[:, None] + by_column[None, :]) / 2
            terms = torch.where(positive, terms * weights, terms)
        return terms.masked_fill(hidden, 0.0).sum() / len(x)
    one_way = _softmax_loss(logits, positive, hidden)
    return (one_way + _softmax_loss(logits.T, positive.T, hidden.T)) / 2 if symmetric else one_way


def oracle(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    pairs: Pairs | None = None,
    *,
    bias: Tensor | None = None,
    kind: Kind = "softmax",
    symmetric: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss in float64, and its gradients by name."""
    given = {"x": x, "y": y, "scale": scale} | ({} if bias is None else {"bias": bias})
    exact = {name: t.detach().double().requires_grad_() for name, t in given.items()}
    loss = contrastive_loss(
        exact["x"],
        exact["y"],
        exact["scale"],
        pairs,
        bias=exact.get("bias"),
        kind=kind,
        symmetric=symmetric,
    )
    gradients = torch.autograd.grad(loss, list(exact.values()))
    return loss.detach(), dict(zip(exact, gradients, strict=True))


def _softmax_loss(logits: Tensor, positive: Tensor, hidden: Tensor) -> Tensor:
    counts = positive.sum(1)
    anchors = counts > 0
    if not anchors.any():
        return logits.sum() * 0.0
    logits, positive, hidden = logits[anchors], positive[anchors], hidden[anchors]
    attraction = (logits * positive).sum(1) / counts[anchors]
    return (logits.masked_fill(hidden, -torch.inf).logsumexp(1) - attraction).mean()
