"""Weighted k-nearest-neighbour accuracy on unit embeddings, exact, in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 512  # queries at a time: bounds the similarity matrix to BLOCK x bank


@torch.no_grad()
def knn_predict(
    bank: Tensor, labels: Tensor, queries: Tensor, *, classes: int, k: int, temperature: float
) -> Tensor:
    """Return the predicted class (q,) of queries (q, d) by a bank (n, d) with labels (n,).

    Rows are normalised. A neighbour votes with weight exp(cosine / temperature); neighbours with
    negative labels do not vote.
    """
    bank = torch.nn.functional.normalize(bank, dim=1)
    queries = torch.nn.functional.normalize(queries, dim=1)
    k = min(k, len(bank))
    found = []
    for block in torch.split(queries, BLOCK):
        cosine, index = (block @ bank.mT).topk(k, dim=1)  # (b, k)
        # Relative to the nearest neighbour: the vote is unchanged, and exp cannot overflow.
        weight = ((cosine - cosine[:, :1]) / temperature).exp()
        votes = weight.new_zeros(len(block), classes)
        voted = labels[index]
        votes.scatter_add_(1, voted.clamp(min=0), weight * (voted >= 0))
        found.append(votes.argmax(dim=1))
    return torch.cat(found)


def knn_accuracy(
    bank: Tensor,
    labels: Tensor,
    queries: Tensor,
    truth: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.1,
) -> float:
    """Return the share of queries whose class the vote finds."""
    classes = int(max(labels.max(), truth.max())) + 1
    found = knn_predict(bank, labels, queries, classes=classes, k=k, temperature=temperature)
    return float((found == truth).float().mean())
