"""Soft assignments of views to prototypes: how they are balanced, and how views predict them.

Everything is computed on logarithms: exp(score / 0.05) alone overflows fp32 for scores above 4.4.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def balance_assignments(scores: Tensor, iterations: int = 3) -> Tensor:
    """Return assignments (n, k), rows of sum 1, after Sinkhorn-Knopp on exp(scores) (n, k).

    Each round gives every prototype the same total, then every row; the last word is the rows'.
    Cuturi 2013, https://arxiv.org/abs/1306.0895, on the logarithms, so no score is too large.
    """
    logs = scores.to(torch.promote_types(scores.dtype, torch.float32))
    for _ in range(iterations):
        logs = logs - logs.logsumexp(dim=0, keepdim=True)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


def cross_view_entropy(targets: Tensor, log_odds: Tensor) -> Tensor:
    """Return the mean cross-entropy of each view's target with every other view's prediction.

    Targets (n, t, k) are of the first t of the v views whose log-probabilities are (n, v, k).
    """
    pairs = -torch.einsum("ntk,nvk->ntv", targets, log_odds).mean(dim=0)  # (t, v)
    other = 1 - torch.eye(*pairs.shape, dtype=pairs.dtype, device=pairs.device)
    return (pairs * other).sum() / other.sum()


@torch.no_grad()
def describe_targets(targets: Tensor) -> dict[str, Tensor]:
    """Return two entropies of targets (..., k) to log; the doctor reads them together.

    That of each (ln k: uniform) and that of their mean (0: one prototype takes all).
    """
    mean = targets.flatten(0, -2).mean(dim=0)
    return {
        "teacher_entropy": torch.special.entr(targets).sum(dim=-1).mean(),
        "shared_entropy": torch.special.entr(mean).sum(),
    }
