"""How many directions the embeddings use: singular values, effective rank, spread.

Effective rank is the exponential of the entropy of the singular values' shares (Roy & Vetterli
2007). A collapsed encoder has an effective rank near 1 and unit rows with a spread far below 1.
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
    rank_me: float  # the same of the uncentred rows (Garrido et al. 2022)
    spread: float  # mean over dimensions of the standard deviation of unit rows, times sqrt(d)

    def top_share(self, count: int) -> float:
        """Return the share of the variance in the top `count` directions."""
        variance = self.singular.double().square()
        return float(variance[:count].sum() / variance.sum().clamp(min=1e-30))


@dataclass(frozen=True)
class SpectrumSums:
    """The sums that a spectrum needs; they may stay on an accelerator, without an eigensolve."""

    centred: Tensor  # the smaller Gram matrix of the unit rows, centred
    raw: Tensor  # the same, not centred
    spread: Tensor  # a scalar

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return all of them."""
        return self.centred, self.raw, self.spread


@torch.no_grad()
def sum_spectrum(embeddings: Tensor) -> SpectrumSums:
    """Return the sums of the rows' spectrum, on the rows' device."""
    rows = torch.nn.functional.normalize(embeddings.float(), dim=1)
    spread = rows.std(dim=0).mean() * rows.shape[1] ** 0.5
    return SpectrumSums(_gram(rows - rows.mean(dim=0)), _gram(rows), spread)


@torch.no_grad()
def finish_spectrum(sums: SpectrumSums) -> Spectrum:
    """Return the spectrum that follows from the sums."""
    singular = _roots(sums.centred)
    rank_me = effective_rank(_roots(sums.raw))
    return Spectrum(singular.float(), effective_rank(singular), rank_me, float(sums.spread))


def measure_spectrum(embeddings: Tensor) -> Spectrum:
    """Return the spectrum of the rows, normalised and centred; a healthy spread is near 1."""
    return finish_spectrum(sum_spectrum(embeddings))


def _gram(rows: Tensor) -> Tensor:
    # Eigenvalues of the smaller Gram matrix: accurate enough, and far faster than an SVD.
    return rows @ rows.mT if len(rows) < rows.shape[1] else rows.mT @ rows


def _roots(gram: Tensor) -> Tensor:
    """Return the singular values that belong to a Gram matrix, largest first, float64."""
    values: Tensor = torch.linalg.eigvalsh(gram.double())
    return values.clamp(min=0).sqrt().flip(0)


def effective_rank(singular: Tensor) -> float:
    """Return the exponential of the entropy of the singular values' shares."""
    total = singular.sum()
    share = singular / total if total > 0 else torch.ones_like(singular[:1])
    return float(torch.special.entr(share).sum().exp())
