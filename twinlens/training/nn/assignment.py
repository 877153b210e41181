"""Soft assignments of views to prototypes: how they are balanced, and how views predict them.

Everything is computed on logarithms: exp(score / 0.05) alone overflows fp32 for scores above 4.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 2**25  # logits at a time: 512 rows of 65,536 prototypes


@torch.no_grad()
def balance_assignments(scores: Tensor, iterations: int = 3) -> Tensor:
    """Return assignments (n, k), rows of sum 1, after Sinkhorn-Knopp on exp(scores) (n, k).

    Each round normalises the prototypes' totals, then the rows; rows come last. Cuturi 2013,
    https://arxiv.org/abs/1306.0895, on logarithms, so no score overflows.
    """
    logs = scores.to(torch.promote_types(scores.dtype, torch.float32))
    for _ in range(iterations):
        logs = logs - logs.logsumexp(dim=0, keepdim=True)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


def cross_view_entropy(targets: Tensor, log_probabilities: Tensor) -> Tensor:
    """Return the mean cross-entropy of each view's target with every other view's prediction.

    Targets (n, t, k) are of the first t of the v views whose log-probabilities are (n, v, k).
    """
    pairs = -torch.einsum("ntk,nvk->ntv", targets, log_probabilities).mean(dim=0)  # (t, v)
    other = 1 - torch.eye(*pairs.shape, dtype=pairs.dtype, device=pairs.device)
    return (pairs * other).sum() / other.sum()


@torch.no_grad()
def describe_targets(targets: Tensor) -> dict[str, Tensor]:
    """Return two entropies of targets (..., k) for the log; the doctor reads them together.

    The mean entropy of single targets (ln k: uniform), and the entropy of their mean (0: one
    prototype takes all).
    """
    mean = targets.flatten(0, -2).mean(dim=0)
    return {
        "teacher_entropy": torch.special.entr(targets).sum(dim=-1).mean(),
        "shared_entropy": torch.special.entr(mean).sum(),
    }


def prototype_entropy(
    rows: Tensor,
    prototypes: Tensor,
    targets: Callable[[slice], Tensor],
    weights: Tensor,
    temperature: float,
) -> Tensor:
    """Return the weighted sum of the cross-entropies of rows (m, d) with their targets (m, k).

    Logits rows @ prototypes^T / temperature and targets exist for a block of rows at a time, and
    the gradient is computed with them. So memory is that of a block, for any m.
    """
    total: Tensor = _PrototypeEntropy.apply(rows, prototypes, targets, weights, temperature)
    return total


class _PrototypeEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        prototypes: Tensor,
        targets: Callable[[slice], Tensor],
        weights: Tensor,
        temperature: float,
    ) -> Tensor:
        by_rows, by_prototypes = torch.zeros_like(rows), torch.zeros_like(prototypes)
        total = rows.new_zeros(())
        size = max(1, BLOCK // len(prototypes))
        for start in range(0, len(rows), size):
            block = slice(start, min(start + size, len(rows)))
            logs = (rows[block] @ prototypes.mT).div_(temperature).log_softmax(dim=1)
            target, weight = targets(block), weights[block, None]
            total -= (target * logs * weight).sum()
            slopes = logs.exp_().mul_(target.sum(dim=1, keepdim=True)).sub_(target)
            slopes *= weight / temperature
            by_rows[block] = slopes @ prototypes
            by_prototypes += slopes.mT @ rows[block]
        ctx.save_for_backward(by_rows, by_prototypes)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_rows, by_prototypes = ctx.saved_tensors
        return grads[0] * by_rows, grads[0] * by_prototypes, None, None, None
