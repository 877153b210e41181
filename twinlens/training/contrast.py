"""The contrastive losses, as the objectives see them: the one place that knows who computes them.

Straightforward and exact. `scale` is 1 / temperature; all normalise their rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

__all__ = [
    "clip_loss",
    "moco_loss",
    "nt_xent_loss",
    "one_way_loss",
    "siglip_loss",
    "supcon_loss",
]

Number = Tensor | float


def clip_loss(x: Tensor, y: Tensor, scale: Number) -> Tensor:
    """Return CLIP's symmetric InfoNCE: row i of x belongs to row i of y."""
    logits = scale * normalize(x, dim=1) @ normalize(y, dim=1).mT
    own = torch.arange(len(x), device=x.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.mT, own)) / 2


def siglip_loss(x: Tensor, y: Tensor, scale: Number, bias: Number) -> Tensor:
    """Return the sigmoid loss: each pair by itself, summed over all pairs, divided by n."""
    logits = scale * normalize(x, dim=1) @ normalize(y, dim=1).mT + bias
    sign = 2 * torch.eye(len(x), device=x.device, dtype=x.dtype) - 1
    return -logsigmoid(sign * logits).sum() / len(x)


def nt_xent_loss(first: Tensor, second: Tensor, scale: Number) -> Tensor:
    """Return SimCLR's loss: each of the 2n views against the 2n - 1 others."""
    images = torch.arange(len(first), device=first.device)
    return supcon_loss(torch.cat([first, second]), images.repeat(2), scale)


def supcon_loss(views: Tensor, labels: Tensor, scale: Number) -> Tensor:
    """Return the supervised contrastive loss; views alone with their label ask nothing."""
    rows = normalize(views, dim=1)
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    logits = (scale * rows @ rows.mT).masked_fill(own, -torch.inf)
    positive = (labels[:, None] == labels[None, :]) & ~own
    count = positive.sum(dim=1)
    log_odds = (logits - logits.logsumexp(dim=1, keepdim=True)).masked_fill(~positive, 0)
    asked = count > 0
    return -(log_odds.sum(dim=1)[asked] / count[asked]).sum() / asked.sum().clamp(min=1)


def moco_loss(queries: Tensor, keys: Tensor, queue: Tensor, scale: Number) -> Tensor:
    """Return MoCo's loss: query i against its own key (n, d) and the queue (k, d), no other key."""
    queries, keys, queue = (normalize(rows, dim=1) for rows in (queries, keys, queue))
    own = (queries * keys).sum(dim=1, keepdim=True)
    logits = scale * torch.cat([own, queries @ queue.mT], dim=1)
    return cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64, device=keys.device))


def one_way_loss(x: Tensor, y: Tensor, scale: Number) -> Tensor:
    """Return InfoNCE from rows to columns alone: row i of x looks for row i of y."""
    logits = scale * normalize(x, dim=1) @ normalize(y, dim=1).mT
    return cross_entropy(logits, torch.arange(len(x), device=x.device))
