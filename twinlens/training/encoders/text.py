"""A small text transformer: tokens (n, length) to representations (n, width).

Attention sees every token but padding, and the representation is the mean over the text. What must
stay true: padding changes nothing, so that the server may cut a batch to its longest text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twinlens.training.encoders.vit import Block, initialise_linear


class TextTransformer(nn.Module):
    """Bidirectional transformer with learned positions and masked mean pooling."""

    def __init__(
        self, vocabulary: int, context: int, width: int, depth: int, heads: int, pad_id: int
    ) -> None:
        super().__init__()
        self.width, self.pad_id = width, pad_id
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(context, width) * 0.01)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise_linear)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return representations (n, width)."""
        seen = tokens != self.pad_id  # (n, length)
        x = self.embed(tokens) + self.position[: tokens.shape[1]]
        # One identical row per query: ONNX Runtime's attention does not broadcast it.
        mask = seen[:, None, None, :].expand(-1, -1, tokens.shape[1], -1)
        for block in self.blocks:
            x = block(x, mask)
        weight = seen.to(x.dtype)[..., None]
        total: Tensor = (self.norm(x) * weight).sum(dim=1)
        return total / weight.sum(dim=1).clamp(min=1)
