"""Linear probe: L2-regularised multinomial logistic regression to convergence.

The same objective as scikit-learn's LogisticRegression, so the same optimum, without depending on
it: C * sum of cross-entropies + |W|^2 / 2, intercepts unpenalised, on standardised columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

STRENGTH = 1.0  # C
ITERATIONS = 200


def fit_probe(rows: Tensor, labels: Tensor, *, classes: int, strength: float = STRENGTH) -> Tensor:
    """Return weights (classes, d + 1), the intercept last, for rows (n, d) as given."""
    n, d = rows.shape
    weight = torch.zeros(classes, d + 1, dtype=rows.dtype, device=rows.device, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight],
        max_iter=ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def measure() -> Tensor:
        solver.zero_grad()
        # Divided by C n: the same optimum with values near 1.
        penalty = weight[:, :-1].square().sum() / (2 * strength * n)
        loss = cross_entropy(rows @ weight[:, :-1].mT + weight[:, -1], labels) + penalty
        torch.autograd.backward(loss)
        return loss

    with torch.enable_grad():
        solver.step(measure)  # type: ignore[no-untyped-call, unused-ignore]
    return weight.detach()


def probe_accuracy(
    bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor, *, strength: float = STRENGTH
) -> float:
    """Return the accuracy on the queries of a probe fitted on the bank."""
    centre, spread = bank.mean(dim=0), bank.std(dim=0, correction=0).clamp(min=1e-8)
    classes = int(max(labels.max(), truth.max())) + 1
    weight = fit_probe((bank - centre) / spread, labels, classes=classes, strength=strength)
    logits = (queries - centre) / spread @ weight[:, :-1].mT + weight[:, -1]
    return float((logits.argmax(dim=1) == truth).float().mean())
