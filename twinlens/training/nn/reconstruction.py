"""From patch tokens back to pixels: what masked image modelling needs besides an encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twinlens.training.encoders.vit import Block, initialise_linear, sines

EPS = 1e-6


class Token(nn.Module):
    """A learned mask token: stands for a hidden patch (width,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self) -> Tensor:
        """Return it."""
        return self.value


class Decoder(nn.Module):
    """A small transformer that fills in the hidden patches; dropped at export.

    It sees the tokens of the kept patches at their places and a mask token everywhere else.
    """

    def __init__(self, width: int, inner: int, depth: int, heads: int, values: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, inner)
        self.blocks = nn.ModuleList(Block(inner, heads) for _ in range(depth))
        self.norm, self.leave = nn.LayerNorm(inner), nn.Linear(inner, values)
        self.apply(initialise_linear)
        self.stand_in = Token(inner)

    def forward(self, tokens: Tensor, keep: Tensor, patches: int) -> Tensor:
        """Return values (n, patches, values) from tokens (n, 1 + k, width) kept at (n, k)."""
        x = self.enter(tokens)
        side = round(patches**0.5)
        full = self.stand_in().to(x).expand(len(x), patches, -1)
        full = full.scatter(1, keep[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:])
        full = full + sines(side, side, side, x.shape[-1]).to(x)
        x = torch.cat([x[:, :1], full], dim=1)
        for block in self.blocks:
            x = block(x)
        values: Tensor = self.leave(self.norm(x[:, 1:]))
        return values


def cut_patches(images: Tensor, patch: int) -> Tensor:
    """Return the pixels of images (n, 3, h, w) by patch, (n, patches, 3 * patch * patch)."""
    cells = images.unfold(2, patch, patch).unfold(3, patch, patch)  # (n, 3, r, c, patch, patch)
    return cells.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def standardise_patches(patches: Tensor) -> Tensor:
    """Return patches standardised to mean 0 and deviation 1 each: brightness is removed."""
    var, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) * (var + EPS).rsqrt()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over rows of the mean of values (n, patches) where the mask is True."""
    weight = mask.to(values.dtype)
    return ((values * weight).sum(dim=-1) / weight.sum(dim=-1).clamp(min=1)).mean()
