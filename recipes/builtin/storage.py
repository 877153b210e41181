"""Towers made small for shipping: batch norms folded, weights stored in half precision.

Weights are stored as fp16 and cast up inside the graph; ONNX Runtime folds the casts when it opens
the file, and computes in fp32. What must stay true: weights are rounded here, once, in torch, so
that torch and the exported graph hold the same numbers.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from recipes.builtin.towers import Block, ImageTower, TextTower

_STEPS = 127  # of int8, to each side


def fold_norms(tower: ImageTower) -> ImageTower:
    """Return a copy in evaluation mode whose batch norms are folded into the convolutions."""
    tower = copy.deepcopy(tower).eval()
    tower.stem, tower.stem_norm = _fold(tower.stem, tower.stem_norm), nn.Identity()
    for block in tower.blocks:
        assert isinstance(block, Block)
        block.conv1, block.norm1 = _fold(block.conv1, block.norm1), nn.Identity()
        block.conv2, block.norm2 = _fold(block.conv2, block.norm2), nn.Identity()
        if isinstance(block.shortcut, nn.Sequential):
            block.shortcut = _fold(*block.shortcut)
    return tower


def store_half(module: nn.Module) -> nn.Module:
    """Replace, in place, every convolution, linear and embedding by one that stores fp16."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            setattr(module, name, _HalfConv(child))
        elif isinstance(child, nn.Linear):
            setattr(module, name, _HalfLinear(child))
        elif isinstance(child, nn.Embedding):
            setattr(module, name, _HalfEmbedding(child))
        else:
            store_half(child)
    return module


class _HalfConv(nn.Module):
    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.padding = conv.stride, conv.padding
        self.register_buffer("weight", conv.weight.detach().half())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.float(), self.bias, self.stride, self.padding)


class _HalfLinear(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().half())
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.float(), self.bias)


class _HalfEmbedding(nn.Module):
    weight: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.register_buffer("weight", embedding.weight.detach().half())

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight).float()


def _fold(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        return fuse_conv_bn_eval(conv, norm)


class SmallEmbedding(nn.Module):
    """An embedding whose rows are integers times a scale."""

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
    """Return a copy of the tower with small weights, in evaluation mode."""
    tower = copy.deepcopy(tower).eval()
    tower.tokens = SmallEmbedding(tower.tokens)  # type: ignore[assignment]
    return store_half(tower)
