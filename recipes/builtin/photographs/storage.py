"""Text towers stored small: embeddings as int8 with a scale a token, all else in half precision."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.builtin.storage import store_half
from recipes.builtin.towers import TextTower

_STEPS = 127


class SmallEmbedding(nn.Module):
    """An embedding whose rows are whole numbers times a scale."""

    values: Tensor
    scales: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        rows = embedding.weight.detach().float()
        scales = rows.abs().amax(1, keepdim=True).clamp_min(1e-6) / _STEPS
        self.register_buffer("scales", scales)
        self.register_buffer("values", (rows / scales).round().to(torch.int8))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, length, width)."""
        return F.embedding(tokens, self.values).float() * F.embedding(tokens, self.scales)


def store_small(tower: TextTower) -> nn.Module:
    """Return a copy of the tower that holds its weights small, in evaluation mode."""
    tower = copy.deepcopy(tower).eval()
    tower.tokens = SmallEmbedding(tower.tokens)  # type: ignore[assignment]
    return store_half(tower)
