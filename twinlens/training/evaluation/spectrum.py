"""How many directions the embeddings use: singular values, effective rank, spread.

Effective rank is the exponential of the entropy of the singular values' shares (Roy & Vetterli
2007); a collapsed encoder has one near 1, and unit rows whose spread is far under 1 / sqrt(d).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of embeddings (n, d)."""

    singular: Tensor  # descending
    effective_rank: float
    spread: float  # mean over dimensions of the standard deviation of unit rows, times sqrt(d)


@torch.no_grad()
def measure_spectrum(embeddings: Tensor) -> Spectrum:
    """Return the spectrum of the rows, made unit and centred; a healthy spread is near 1."""
    rows = torch.nn.functional.normalize(embeddings.float(), dim=1)
    centred = rows - rows.mean(dim=0)
    # Eigenvalues of the smaller Gram matrix: exact enough, and far faster than an SVD.
    gram = centred @ centred.mT if len(rows) < rows.shape[1] else centred.mT @ centred
    singular = torch.linalg.eigvalsh(gram.double()).clamp(min=0).sqrt().flip(0)
    total = singular.sum()
    share = singular / total if total > 0 else torch.ones_like(singular[:1])
    entropy = -(share * share.clamp(min=1e-30).log()).sum()
    spread = rows.std(dim=0).mean() * rows.shape[1] ** 0.5
    return Spectrum(singular.float(), float(entropy.exp()), float(spread))
