"""Few-shot: the nearest class mean of k examples, averaged over draws."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from twinlens.training.seeds import generator

DRAWS = 10


@torch.no_grad()
def few_shot_accuracy(
    bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor, *, shots: int, seed: int = 0
) -> float | None:
    """Return the mean accuracy over draws of `shots` per class; None if a class has fewer."""
    classes = torch.unique(labels)
    members = [(labels == label).nonzero()[:, 0] for label in classes]
    if min(map(len, members)) < shots:
        return None
    bank, queries = normalize(bank, dim=1), normalize(queries, dim=1)
    hits = []
    for draw in range(DRAWS):
        draws = generator(seed, draw, shots)
        means = [
            bank[own[torch.randperm(len(own), generator=draws)[:shots]]].mean(dim=0)
            for own in members
        ]
        cosine = queries @ normalize(torch.stack(means), dim=1).mT
        hits.append((classes[cosine.argmax(dim=1)] == truth).float().mean())
    return float(torch.stack(hits).mean())
