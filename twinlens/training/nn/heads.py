"""Heads: the small networks between a tower's representation and the loss.

They are dropped at export: the representation below them is served.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


def mlp(
    sizes: tuple[int, ...],
    *,
    norm: bool = True,
    last_norm: bool = False,
    affine: bool = True,
    last_bias: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Return Linear layers of these sizes with BatchNorm and ReLU between them.

    With `last_norm` the last layer is a BatchNorm, with learned scale if `affine`; without it the
    last layer has a bias if `last_bias`. `dropout` follows each ReLU.
    """
    layers: list[nn.Module] = []
    for index, (narrow, wide) in enumerate(itertools.pairwise(sizes)):
        last = index == len(sizes) - 2
        normed = last_norm if last else norm
        layers.append(nn.Linear(narrow, wide, bias=not normed and (last_bias or not last)))
        if normed:
            layers.append(nn.BatchNorm1d(wide, affine=affine or not last))
        if not last:
            layers.append(nn.ReLU(inplace=True))
            layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)


class PrototypeHead(nn.Module):
    """DINO's head: MLP with GELU, a unit bottleneck, and unit prototypes; logits (n, k).

    The prototypes are a weight-normed layer with gain 1: its outputs are cosines.
    """

    def __init__(self, width: int, hidden: int, narrow: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, narrow),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.randn(prototypes, narrow) * narrow**-0.5)

    def forward(self, rows: Tensor) -> Tensor:
        """Return cosines (n, k) of the bottleneck rows with the prototypes."""
        return self.narrow(rows) @ self.unit_prototypes().mT

    def narrow(self, rows: Tensor) -> Tensor:
        """Return the bottleneck rows, of length 1."""
        return nn.functional.normalize(self.mlp(rows), dim=-1)

    def unit_prototypes(self) -> Tensor:
        """Return the prototypes (k, narrow), of length 1."""
        return nn.functional.normalize(self.prototypes, dim=-1)
