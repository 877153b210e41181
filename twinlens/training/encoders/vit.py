"""Vision transformers (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

Positions are fixed 2-D sines over coordinates relative to the training size, so that smaller crops
(multi-crop) span the same range without interpolation of learned positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twinlens.training.encoders.token_tower import TokenTower, pick


@dataclass(frozen=True)
class ViTShape:
    """Width, depth and heads."""

    width: int
    depth: int
    heads: int


SHAPES = {
    "vit-nano": ViTShape(64, 2, 2),
    "vit-tiny": ViTShape(192, 12, 3),
    "vit-small": ViTShape(384, 12, 6),
    "vit-base": ViTShape(768, 12, 12),
}


class Attention(nn.Module):
    """Multi-head self-attention; `mask` (n, 1, 1, length) holds True where a key may be seen."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def first_weights(self, x: Tensor) -> Tensor:
        """Return the first token's attention weights (n, heads, length)."""
        q, k, _ = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q[:, :, :1] @ k.mT)[:, :, 0] / q.shape[-1] ** 0.5
        return scores.softmax(dim=-1)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens (n, length, width)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """A learned factor for each channel of a token (Touvron et al. 2021)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Return x scaled."""
        return x * self.gamma


class DropPath(nn.Module):
    """Stochastic depth: zeroes a branch for a share of the images (Huang et al. 2016)."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Return x with its expected value unchanged."""
        if not (self.training and self.drop_prob):
            return x
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.drop_prob
        return x * kept / (1 - self.drop_prob)


class Block(nn.Module):
    """A pre-norm transformer block; its two branches may be scaled and dropped."""

    def __init__(
        self, width: int, heads: int, *, drop_path: float = 0.0, layer_scale: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_mix, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale_mix, self.scale_feed = (
            LayerScale(width, layer_scale) if layer_scale else nn.Identity() for _ in range(2)
        )
        self.drop = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the block's output (n, length, width)."""
        x = x + self.drop(self.scale_mix(self.attention(self.norm_mix(x), mask)))
        return x + self.drop(self.scale_feed(self.feed(self.norm_feed(x))))  # type: ignore[no-any-return]


class VisionTransformer(TokenTower):
    """Images (n, 3, h, w) to the class token's representation (n, width)."""

    def __init__(
        self,
        shape: ViTShape,
        patch: int,
        image_size: int,
        *,
        drop_paths: Sequence[float] = (),
        layer_scale: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = self.inner = shape.width
        self.patch, self.grid = patch, image_size // patch
        self.heads = shape.heads
        self.embed = nn.Conv2d(3, shape.width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, shape.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.heads, drop_path=drop_path, layer_scale=layer_scale)
            for drop_path in drop_paths or [0.0] * shape.depth
        )
        self.norm = nn.LayerNorm(shape.width)
        self.apply(initialise_linear)

    def forward(self, images: Tensor) -> Tensor:
        """Return representations (n, width)."""
        return self.tokens(images)[:, 0]

    def tokens(
        self,
        images: Tensor,
        *,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Return the class token and the patch tokens (n, 1 + patches, width), normed.

        Patches that are `hidden` (n, patches) are replaced by `mask_token` (width,). With `keep`
        (n, k), the numbers of some patches, only these are seen and returned, in that order.
        """
        x = self._start(images, hidden, mask_token)
        if keep is not None:
            x = torch.cat([x[:, :1], pick(x[:, 1:], keep)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def patch_layer(self) -> nn.Module:
        """Return the convolution that cuts patches."""
        return self.embed

    def look(self, images: Tensor) -> Tensor:
        """Return the class token's attention to each patch in the last layer (n, heads, r, c).

        The class token itself is left out, and each head's map sums to 1.
        """
        x = self._start(images)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        maps = last.attention.first_weights(last.norm_mix(x))[:, :, 1:]  # type: ignore[operator, union-attr]
        maps = maps / maps.sum(dim=-1, keepdim=True)
        rows, columns = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        return maps.unflatten(-1, (rows, columns))  # type: ignore[no-any-return]

    def _start(
        self, images: Tensor, hidden: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """Return the class token and the patches with their positions."""
        x = self.embed(images)
        rows, columns = x.shape[-2:]
        x = x.flatten(2).mT
        if hidden is not None and mask_token is not None:
            x = torch.where(hidden[..., None], mask_token.to(x), x)
        x = x + sines(rows, columns, self.grid, self.width).to(x)
        # Not len(x): the export would record it as a constant.
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)


def sines(rows: int, columns: int, grid: int, width: int) -> Tensor:
    """Return positions (rows * columns, width): sines of both coordinates, scaled to `grid`."""
    quarter = width // 4
    omega = torch.exp(-math.log(10000.0) * torch.arange(quarter) / quarter)
    y = (torch.arange(rows) + 0.5) * grid / rows - 0.5
    x = (torch.arange(columns) + 0.5) * grid / columns - 0.5
    wave_y, wave_x = y[:, None] * omega, x[:, None] * omega
    down = torch.cat([wave_y.sin(), wave_y.cos()], dim=1)[:, None].expand(-1, columns, -1)
    across = torch.cat([wave_x.sin(), wave_x.cos()], dim=1)[None].expand(rows, -1, -1)
    return torch.cat([down, across], dim=2).flatten(0, 1)


def initialise_linear(module: nn.Module) -> None:
    """Initialise linear layers with the usual small weights and zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
