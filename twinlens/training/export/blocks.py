"""Transformer blocks for inference: batch first, and pooled early.

A pre-norm block is read from open_clip's or timm's own module and shares its weights. Where a tower
keeps one token of the last block, `pool` computes that token alone: keys and values come from every
token, but one query row and one row of the MLP replace all others. What must stay true: this is
exact, and the export verifies it for each model before it uses it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head self-attention over (n, length, width), with one projection for q, k and v."""

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        out: nn.Module,
        heads: int,
        *,
        norm_q: nn.Module | None = None,
        norm_k: nn.Module | None = None,
        norm_out: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.heads = weight, bias, heads
        self.norm_q = norm_q or nn.Identity()
        self.norm_k = norm_k or nn.Identity()
        self.norm_out = norm_out or nn.Identity()
        self.out = out

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Return what every token gathers from all, or from earlier tokens: (n, length, width)."""
        q, k, v = F.linear(x, self.weight, self.bias).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(
            self.norm_q(split_heads(q, self.heads)),
            self.norm_k(split_heads(k, self.heads)),
            split_heads(v, self.heads),
            is_causal=causal,
        )
        return cast("Tensor", self.out(self.norm_out(join_heads(mixed))))


class OneQueryAttention(nn.Module):
    """The same attention for one token of each row, which attends to all of them."""

    def __init__(self, full: SelfAttention) -> None:
        super().__init__()
        inner = full.weight.shape[0] // 3
        # Parameters of their own, cut once here: a slice in the graph would hide a constant
        # weight from quantisation. They share the memory of the whole.
        self.weight_q, self.weight_kv = _cut(full.weight, inner)
        cut = (None, None) if full.bias is None else _cut(full.bias, inner)
        self.bias_q: Tensor | None = cut[0]
        self.bias_kv: Tensor | None = cut[1]
        self.heads, self.out = full.heads, full.out
        self.norm_q, self.norm_k, self.norm_out = full.norm_q, full.norm_k, full.norm_out

    def forward(self, x: Tensor, pooled: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return what the `pooled` tokens (n, 1, width) gather from `x`: (n, 1, width).

        `keep` (n, 1, 1, length) is true where a token may be attended to.
        """
        q, k, v = self._project(x, pooled)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        return cast("Tensor", self.out(self.norm_out(join_heads(mixed))))

    def look(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Return the pooled token's attention to each token of `x`: (n, heads, 1, length)."""
        q, k, _ = self._project(x, pooled)
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), dim=-1)

    def _project(self, x: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = split_heads(F.linear(pooled, self.weight_q, self.bias_q), self.heads)
        k, v = F.linear(x, self.weight_kv, self.bias_kv).chunk(2, dim=-1)
        return self.norm_q(q), self.norm_k(split_heads(k, self.heads)), split_heads(v, self.heads)


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each scaled: the block of every plain ViT."""

    def __init__(
        self,
        attention: SelfAttention,
        mlp: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        scales: tuple[nn.Module, nn.Module],
    ) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.norm_1, self.norm_2 = norms
        self.scale_1, self.scale_2 = scales

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Return the block's output for every token; open_clip's loop passes `attn_mask`."""
        if attn_mask is not None:
            raise RuntimeError("a lean block takes `causal`, not a mask; this is a bug")
        x = x + self.scale_1(self.attention(self.norm_1(x), causal=causal))
        return cast("Tensor", x + self.scale_2(self.mlp(self.norm_2(x))))


class PooledBlock(nn.Module):
    """A `PreNormBlock` for one token of each row."""

    def __init__(self, block: PreNormBlock) -> None:
        super().__init__()
        self.attention, self.mlp = OneQueryAttention(block.attention), block.mlp
        self.norm_1, self.norm_2 = block.norm_1, block.norm_2
        self.scale_1, self.scale_2 = block.scale_1, block.scale_2

    def forward(self, x: Tensor, pooled: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the block's output for the tokens `pooled` (n, 1, width) of `x` alone."""
        inner = self.attention(self.norm_1(x), self.norm_1(pooled), keep)
        y = pooled + self.scale_1(inner)
        return cast("Tensor", y + self.scale_2(self.mlp(self.norm_2(y))))

    def look(self, x: Tensor) -> Tensor:
        """Return the first token's attention over all tokens: (n, heads, 1, length)."""
        normed = self.norm_1(x)
        return self.attention.look(normed, normed[:, :1])


class FirstToken(nn.Module):
    """A last block that returns its first token only: (n, length, width) -> (n, 1, width)."""

    def __init__(self, block: PreNormBlock) -> None:
        super().__init__()
        self.block = PooledBlock(block)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Return the block's output for the first token."""
        return cast("Tensor", self.block(x, x[:, :1]))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(n, length, width) -> (n, heads, length, width of a head)."""
    split: Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return split


def join_heads(x: Tensor) -> Tensor:
    """(n, heads, length, width of a head) -> (n, length, width)."""
    return x.transpose(1, 2).flatten(2)


def share_parameter(view: Tensor) -> nn.Parameter:
    """Return a view of a weight as a parameter that shares its memory."""
    return nn.Parameter(view.detach(), requires_grad=False)


def _cut(tensor: Tensor, first: int) -> tuple[nn.Parameter, nn.Parameter]:
    return share_parameter(tensor[:first]), share_parameter(tensor[first:])


def read_block(block: nn.Module) -> PreNormBlock | None:
    """Return open_clip's or timm's `block` as a `PreNormBlock` over the same weights.

    None for a block that computes anything else: its library's module then runs unchanged.
    """
    reader = _READERS.get(f"{type(block).__module__}.{type(block).__qualname__}")
    return reader(block) if reader else None


def read_blocks(blocks: Any) -> list[PreNormBlock] | None:
    """Return all blocks of a tower as `PreNormBlock`s, or None if one is of another kind."""
    read = [read_block(block) for block in blocks]
    return [block for block in read if block is not None] if all(read) and read else None


def _read_open_clip(block: Any) -> PreNormBlock | None:
    attention = read_multihead(block.attn)
    if attention is None or hasattr(block, "ln_1_kv"):
        return None
    return PreNormBlock(attention, block.mlp, (block.ln_1, block.ln_2), (block.ls_1, block.ls_2))


def read_multihead(attn: Any) -> SelfAttention | None:
    """Return torch's multi-head attention as a `SelfAttention`, or None for other variants."""
    plain = attn.in_proj_weight is not None and attn.bias_k is None and not attn.add_zero_attn
    if not plain:
        return None
    return SelfAttention(attn.in_proj_weight, attn.in_proj_bias, attn.out_proj, attn.num_heads)


def _read_timm(block: Any) -> PreNormBlock | None:
    attn = block.attn
    if type(attn).__module__ != "timm.layers.attention" or type(attn).__name__ != "Attention":
        return None
    if getattr(attn, "gate", None) is not None:
        return None
    attention = SelfAttention(
        attn.qkv.weight,
        attn.qkv.bias,
        attn.proj,
        attn.num_heads,
        norm_q=attn.q_norm,
        norm_k=attn.k_norm,
        norm_out=attn.norm,
    )
    return PreNormBlock(attention, block.mlp, (block.norm1, block.norm2), (block.ls1, block.ls2))


_READERS = {
    "open_clip.transformer.ResidualAttentionBlock": _read_open_clip,
    "timm.models.vision_transformer.Block": _read_timm,
}
