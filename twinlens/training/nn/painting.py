"""From features back to a picture: the small convolutional decoders of pretext tasks.

They are dropped at export. What must stay true: rows never interact, so there is no BatchNorm.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate


class Painter(nn.Module):
    """Features by place (n, width, h, h) to values (n, channels, side, side).

    The layers enlarge the map from one side to the other in equal ratios.
    """

    def __init__(self, width: int, inner: int, layers: int, side: int, channels: int) -> None:
        super().__init__()
        self.side = side
        self.enter = nn.Conv2d(width, inner, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inner, inner, 3, 1, 1), nn.GroupNorm(1, inner), nn.ReLU())
            for _ in range(layers)
        )
        self.leave = nn.Conv2d(inner, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the values."""
        x, start = self.enter(features), features.shape[-1]
        for number, layer in enumerate(self.layers, 1):
            side = round(start * (self.side / start) ** (number / len(self.layers)))
            x = layer(interpolate(x, (side, side), mode="nearest"))
        values: Tensor = self.leave(x)
        return values


class CodePainter(nn.Module):
    """A code (n, dim) to a picture (n, channels, side, side), from a map of `START` x `START`."""

    START = 4

    def __init__(self, dim: int, inner: int, layers: int, side: int, channels: int = 3) -> None:
        super().__init__()
        self.spread = nn.Linear(dim, inner * self.START**2)
        self.painter = Painter(inner, inner, layers, side, channels)

    def forward(self, code: Tensor) -> Tensor:
        """Return the picture."""
        spread = self.spread(code).unflatten(1, (-1, self.START, self.START))
        picture: Tensor = self.painter(spread)
        return picture
