"""Image towers rewritten for inference, and the [CLS] attention map of a vision transformer.

A tower keeps its own forward; only its blocks are replaced, and the last one returns the pooled
token alone where pooling reads that token. Towers of unknown structure stay unchanged.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twinlens.training.export.blocks import (
    FirstToken,
    join_heads,
    read_blocks,
    share_parameter,
    split_heads,
)
from twinlens.training.export.description import AttentionMap


def copy_structure(module: nn.Module) -> nn.Module:
    """Return a copy of `module` with new structure to modify and shared weights."""
    kept: list[Tensor] = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in kept})


def lean_image(tower: nn.Module) -> nn.Module | None:
    """Return `tower` rewritten to compute the same embeddings faster, or None if it cannot be."""
    lean = copy_structure(tower)
    found = find_vision_transformer(lean)
    if found is not None:
        return lean if found.rebuild() else None
    pool = getattr(lean, "attnpool", None)
    if type(pool).__name__ == "AttentionPool2d" and type(pool).__module__.startswith("open_clip"):
        lean.attnpool = PooledAttentionPool(pool)
        return lean
    return None


def read_attention(tower: nn.Module) -> AttentionMap | None:
    """Return the last layer's [CLS] attention of `tower`, or None if it has none."""
    found = find_vision_transformer(copy_structure(tower))
    if found is None or not found.pools_first_token or not found.rebuild():
        return None
    rows, columns = found.grid
    module = FirstTokenAttention(found)
    return AttentionMap(module, module.last.attention.heads, rows, columns)


class FirstTokenAttention(nn.Module):
    """Normalised pixels -> the class token's attention to each patch: (n, heads, rows, columns).

    Class and register tokens are left out and each head's map sums to 1.
    """

    def __init__(self, tower: LeanVisionTransformer) -> None:
        super().__init__()
        *blocks, last = tower.blocks
        self.module = tower.module
        self.stem = tower.embed
        self.blocks, self.last = nn.ModuleList(blocks), cast("FirstToken", last).block
        self.prefix, self.grid = tower.prefix, tower.grid

    def forward(self, x: Tensor) -> Tensor:
        """Return the map."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        patches = self.last.look(x)[:, :, 0, self.prefix :]
        shares = patches / patches.sum(-1, keepdim=True).clamp_min(1e-12)
        return cast("Tensor", shares.unflatten(-1, self.grid))


class LeanVisionTransformer:
    """What open_clip's and timm's vision transformers have in common, under one set of names."""

    def __init__(self, module: Any, *, timm: bool) -> None:
        self.module = module
        self.timm = timm
        self.blocks: Any = module.blocks if timm else module.transformer.resblocks
        self.prefix: int = module.num_prefix_tokens if timm else 1
        self.grid: tuple[int, int] = tuple(
            module.patch_embed.grid_size if timm else module.grid_size
        )

    @property
    def pools_first_token(self) -> bool:
        """Whether the embedding is read from the class token of the last block alone."""
        if self.timm:
            return self.module.global_pool == "token" and self.module.attn_pool is None
        return self.module.pool_type == "tok" and self.module.attn_pool is None

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens that enter the first block: (n, length, width)."""
        if not self.timm:
            return cast("Tensor", self.module._embeds(x))
        x = self.module._pos_embed(self.module.patch_embed(x))
        return cast("Tensor", self.module.norm_pre(self.module.patch_drop(x)))

    def rebuild(self) -> bool:
        """Replace the blocks and the patch projection in place; return whether it could."""
        blocks = read_blocks(self.blocks)
        if blocks is None:
            return False
        rebuilt: list[nn.Module] = [*blocks]
        if self.pools_first_token:
            rebuilt[-1] = FirstToken(blocks[-1])
        if self.timm:
            self.module.blocks = self.blocks = nn.Sequential(*rebuilt)
            self.module.patch_embed.proj = project_patches(self.module.patch_embed.proj)
        else:
            self.module.transformer.resblocks = self.blocks = nn.ModuleList(rebuilt)
            self.module.conv1 = project_patches(self.module.conv1)
            self.module.output_tokens = False
        return True


class PatchProjection(nn.Module):
    """A convolution whose stride equals its kernel, as a matrix product.

    Dynamic int8 quantisation applies to matrix products only.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = share_parameter(conv.weight.flatten(1)), conv.bias
        self.patch = conv.weight.shape[2:]

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, width of a token, rows, columns)."""
        high, wide = self.patch
        x = x.unflatten(3, (-1, wide)).unflatten(2, (-1, high))  # n, c, rows, high, columns, wide
        patches = x.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(patches, self.weight, self.bias).permute(0, 3, 1, 2)


def project_patches(conv: nn.Module) -> nn.Module:
    """Return `conv` as a `PatchProjection` if it is equivalent to one, else unchanged."""
    fits = (
        isinstance(conv, nn.Conv2d)
        and conv.stride == conv.kernel_size
        and conv.padding == (0, 0)
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )
    return PatchProjection(cast("nn.Conv2d", conv)) if fits else conv


class PooledAttentionPool(nn.Module):
    """open_clip's attention pool over a feature map, for its mean token alone: exact."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.positional_embedding = pool.positional_embedding
        self.q_proj, self.k_proj, self.v_proj = pool.q_proj, pool.k_proj, pool.v_proj
        self.c_proj, self.heads = pool.c_proj, pool.num_heads

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, rows, columns) -> (n, d)."""
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        q, k, v = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        q, k, v = (split_heads(y, self.heads) for y in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return cast("Tensor", self.c_proj(join_heads(mixed))[:, 0])


def find_vision_transformer(tower: Any) -> LeanVisionTransformer | None:
    """Return the vision transformer in `tower`: itself, or the trunk that open_clip wraps."""
    trunk = getattr(tower, "trunk", tower)
    name = f"{type(trunk).__module__}.{type(trunk).__qualname__}"
    if name == "open_clip.transformer.VisionTransformer":
        return LeanVisionTransformer(trunk, timm=False)
    if name == "timm.models.vision_transformer.VisionTransformer":
        return LeanVisionTransformer(trunk, timm=True)
    return None
