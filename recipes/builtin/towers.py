"""The two towers of the builtin encoder, small enough to ship and fast enough for one core.

Both return unnormalised rows: the loss truncates and normalises them at several lengths, the export
at full length. What must stay true: a tower in evaluation mode treats every row separately, so that
batches of any size give the same embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EMBEDDING_DIM = 256
IMAGE_SIZE = 48  # a tower trained at one size is far worse at another: docs/log/2026-11.md
PAD_ID = 0
PIXEL_MEAN, PIXEL_STD = 0.5, 0.25


@dataclass(frozen=True)
class ImageShape:
    """Channels of the image tower, stage by stage: (channels, stride)."""

    stem: int = 32
    blocks: tuple[tuple[int, int], ...] = ((64, 2), (128, 2), (128, 1), (256, 2), (320, 1))


@dataclass(frozen=True)
class TextShape:
    """Sizes of the text tower. Tokens are embedded narrow, then widened: half the parameters."""

    vocabulary: int = 8192
    token_width: int = 128
    width: int = 192
    heads: int = 4
    depth: int = 2
    context: int = 32


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1: nn.Module = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, channels, h / stride, w / stride)."""
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ImageTower(nn.Module):
    """A residual network over normalised pixels (n, 3, s, s); any even size s from 32 on."""

    def __init__(self, shape: ImageShape | None = None, dim: int = EMBEDDING_DIM) -> None:
        super().__init__()
        shape = shape or ImageShape()
        self.stem = nn.Conv2d(3, shape.stem, 5, 2, 2, bias=False)
        self.stem_norm: nn.Module = nn.BatchNorm2d(shape.stem)
        blocks, channels = [], shape.stem
        for width, stride in shape.blocks:
            blocks.append(Block(channels, width, stride))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.projection = nn.Linear(channels, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return rows (n, dim): mean and maximum over places, concatenated."""
        maps = self.blocks(F.relu(self.stem_norm(self.stem(pixels)))).float()
        rows: Tensor = self.projection(maps.mean((2, 3)) + maps.amax((2, 3)))
        return rows


class Layer(nn.Module):
    """One transformer layer, normalised before each half."""

    def __init__(self, width: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (n, length, width); `mask` (n, 1, length, length) is added to the logits."""
        n, length, width = x.shape
        split = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        attend = _attend if self.training else F.scaled_dot_product_attention
        mixed = attend(q, k, v, attn_mask=mask)
        mixed = self.out(mixed.transpose(1, 2).reshape(n, length, width))
        x = x + F.dropout(mixed, self.dropout, self.training)
        inner = self.narrow(F.gelu(self.widen(self.norm2(x))))
        return x + F.dropout(inner, self.dropout, self.training)


def _attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor) -> Tensor:
    """Return plain attention: for such short texts, seven times the speed of torch's own."""
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    mixed: Tensor = (logits + attn_mask).softmax(-1) @ v
    return mixed


class TextTower(nn.Module):
    """A short transformer over tokens (n, length), averaged over all but padding."""

    def __init__(self, shape: TextShape | None = None, dim: int = EMBEDDING_DIM) -> None:
        super().__init__()
        shape = shape or TextShape()
        self.tokens = nn.Embedding(shape.vocabulary, shape.token_width, padding_idx=PAD_ID)
        self.widen = nn.Linear(shape.token_width, shape.width)
        self.positions = nn.Parameter(torch.randn(shape.context, shape.width) * 0.01)
        self.layers = nn.ModuleList(Layer(shape.width, shape.heads) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.projection = nn.Linear(shape.width, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return rows (n, dim); padding affects no other token and is not averaged."""
        present = tokens != PAD_ID
        x = self.widen(self.tokens(tokens)) + self.positions[: tokens.shape[1]]
        mask = torch.where(present, 0.0, -1e4).to(x.dtype)[:, None, None, :]
        mask = mask.expand(-1, -1, tokens.shape[1], -1)  # ONNX's Attention broadcasts no queries
        for layer in self.layers:
            x = layer(x, mask)
        weights = present.unsqueeze(-1).float()
        summed = (self.norm(x.float()) * weights).sum(1)
        rows: Tensor = self.projection(summed / weights.sum(1))
        return rows


class TwoTowers(nn.Module):
    """Both towers and the learned inverse temperatures, by the name of their comparison."""

    comparisons = ("image_text", "text_text", "image_image", "groups", "words")

    def __init__(self, text: TextShape | None = None) -> None:
        super().__init__()
        self.image = ImageTower()
        self.text = TextTower(text)
        self.log_scales = nn.Parameter(torch.tensor([2.7, 2.7, 2.7, 2.3, 2.3]))

    def scales(self) -> dict[str, Tensor]:
        """Return the inverse temperatures, at most 80, beyond which one hard pair dominates."""
        values = self.log_scales.exp().clamp(max=80.0)
        return dict(zip(self.comparisons, values, strict=True))


def normalise_pixels(pixels: Tensor) -> Tensor:
    """Return uint8 (n, h, w, 3) as the floats (n, 3, h, w) that the image tower reads."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 255.0
    return (scaled - PIXEL_MEAN) / PIXEL_STD
