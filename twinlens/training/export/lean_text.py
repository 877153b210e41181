"""open_clip's text transformer rewritten for inference: any length, and one token pooled early.

With causal attention and pooling at the end-of-text token, later tokens cannot matter, so a batch
needs only the length of its longest text. With bidirectional attention the same module runs at the
full context.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from twinlens.training.export.blocks import PooledBlock, PreNormBlock, read_blocks

_POOLS = ("argmax", "eos", "first", "last")


class LeanText(nn.Module):
    """Tokens (n, length) -> embeddings (n, d), with the weights of an open_clip text tower."""

    def __init__(self, tower: Any, blocks: list[PreNormBlock], pool: str, eos_id: int) -> None:
        super().__init__()
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.blocks, self.last = nn.ModuleList(blocks[:-1]), PooledBlock(blocks[-1])
        self.norm = tower.ln_final
        self.projection = tower.text_projection
        self.causal = tower.attn_mask is not None
        self.pool_type, self.eos_id = pool, eos_id

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the embeddings, not yet of unit length."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        for block in self.blocks:
            x = block(x, causal=self.causal)
        position = self._find_position(tokens)  # (n,)
        index = position.view(-1, 1, 1).expand(-1, 1, x.shape[-1])
        keep = None
        if self.causal:
            keep = (torch.arange(length, device=x.device) <= position[:, None])[:, None, None]
        pooled = self.norm(self.last(x, torch.gather(x, 1, index), keep))[:, 0]
        return self._project(pooled)

    def _find_position(self, tokens: Tensor) -> Tensor:
        """Return the position of each row's pooled token: (n,)."""
        # ONNX Runtime has no ArgMax over int64; every vocabulary fits in int32.
        if self.pool_type == "argmax":
            return tokens.to(torch.int32).argmax(dim=-1)
        if self.pool_type == "eos":
            return (tokens == self.eos_id).to(torch.int32).argmax(dim=-1)
        end = 0 if self.pool_type == "first" else tokens.shape[1] - 1
        return torch.full_like(tokens[:, 0], end)

    def _project(self, pooled: Tensor) -> Tensor:
        if self.projection is None:
            return pooled
        if isinstance(self.projection, nn.Linear):
            return cast("Tensor", self.projection(pooled))
        return cast("Tensor", pooled @ self.projection)


def read_text(model: Any) -> LeanText | None:
    """Return the rewritten text tower of the open_clip `model`, or None for other variants."""
    nested = hasattr(model, "text")
    tower = model.text if nested else model
    if not hasattr(tower, "token_embedding") or not hasattr(tower, "attn_mask"):
        return None
    if getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False):
        return None
    pool = tower.pool_type if nested else tower.text_pool_type
    eos_id = tower.eos_id if nested else tower.text_eos_id
    blocks = read_blocks(tower.transformer.resblocks)
    if blocks is None or pool not in _POOLS:
        return None
    return LeanText(tower, blocks, pool, eos_id)
