"""The wrappers of every exported graph: raw uint8 or int64 in, unit float32 rows out.

What must stay true: the tower between them may run in half precision, the wrappers never do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Keeps a row of zeros finite; far below the length of any real embedding.
_LEAST_LENGTH = 1e-12


class PixelFace(nn.Module):
    """uint8 pixels (n, height, width, 3) to unit rows (n, d)."""

    def __init__(self, tower: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.tower = tower
        self.scale = nn.Buffer(channel_column([1 / (255 * s) for s in std]))
        self.shift = nn.Buffer(channel_column([-m / s for m, s in zip(mean, std, strict=True)]))
        self.dtype = torch.float32

    def forward(self, pixels: Tensor) -> Tensor:
        """Return unit rows."""
        return unit_rows(self.tower(self.normalise(pixels)))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return the pixels as the tower expects them: (n, 3, height, width)."""
        # Transposed before the conversion to float: a quarter of the memory traffic.
        moved = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return (moved * self.scale + self.shift).to(self.dtype)


class AttentionFace(PixelFace):
    """uint8 pixels (n, height, width, 3) to attention (n, heads, rows, columns)."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the map."""
        attention: Tensor = self.tower(self.normalise(pixels))
        return attention.to(torch.float32)


class TokenFace(nn.Module):
    """int64 tokens (n, length) to unit rows (n, d)."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        """Return unit rows."""
        return unit_rows(self.tower(tokens))


def unit_rows(rows: Tensor) -> Tensor:
    """Return `rows` as float32 of unit length; a row of zeros stays zero."""
    rows = rows.to(torch.float32)
    lengths: Tensor = rows.norm(dim=-1, keepdim=True).clamp_min(_LEAST_LENGTH)
    return rows / lengths


def channel_column(values: Sequence[float]) -> Tensor:
    """Return three values in a shape that broadcasts over (n, 3, height, width)."""
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
