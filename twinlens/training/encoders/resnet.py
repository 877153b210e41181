"""ResNets for small and large images (He et al. 2015, https://arxiv.org/abs/1512.03385).

The stem decides which image sizes they suit: `cifar` keeps the resolution (3x3, no pooling),
`stride2` halves it (for CPUs), `imagenet` quarters it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from twinlens.training.encoders.single_pixels import guard_single_pixels

Stem = Literal["cifar", "stride2", "imagenet"]


@dataclass(frozen=True)
class ResNetShape:
    """Blocks per stage, width of the first stage, and whether blocks are bottlenecks."""

    blocks: tuple[int, ...]
    width: int = 64
    bottleneck: bool = False


SHAPES = {
    "resnet-tiny": ResNetShape((1, 1, 1, 1), width=24),
    "resnet10": ResNetShape((1, 1, 1, 1)),
    "resnet18": ResNetShape((2, 2, 2, 2)),
    "resnet34": ResNetShape((3, 4, 6, 3)),
    "resnet50": ResNetShape((3, 4, 6, 3), bottleneck=True),
}


class ResNet(nn.Module):
    """Images (n, 3, h, w) to mean-pooled representations (n, width)."""

    def __init__(self, shape: ResNetShape, stem: Stem) -> None:
        super().__init__()
        self.stem = _stem(stem, shape.width)
        stages: list[nn.Module] = []
        width_in = shape.width
        for index, count in enumerate(shape.blocks):
            inner = shape.width * 2**index
            for number in range(count):
                stride = 2 if number == 0 and index > 0 else 1
                block = Bottleneck if shape.bottleneck else Basic
                stages.append(block(width_in, inner, stride))
                width_in = inner * block.expansion
        self.stages = nn.Sequential(*stages)
        self.width = width_in
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        guard_single_pixels(self)

    def features(self, images: Tensor) -> Tensor:
        """Return features by place (n, width, h, w)."""
        out: Tensor = self.stem(images)
        for stage in self.stages:
            out = stage(out)
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Return representations (n, width)."""
        return self.features(images).mean(dim=(2, 3))


class Basic(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(width_in, width, 3, stride),
            nn.ReLU(inplace=True),
            *_convolution(width, width, 3, 1),
        )
        self.shortcut = _shortcut(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the middle one strides."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(width_in, width, 1, 1),
            nn.ReLU(inplace=True),
            *_convolution(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_convolution(width, width * 4, 1, 1),
        )
        self.shortcut = _shortcut(width_in, width * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


def _convolution(width_in: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(width)]


def _shortcut(width_in: int, width: int, stride: int) -> nn.Module:
    if stride == 1 and width_in == width:
        return nn.Identity()
    return nn.Sequential(*_convolution(width_in, width, 1, stride))


def _stem(stem: Stem, width: int) -> nn.Sequential:
    if stem == "imagenet":
        pool = nn.MaxPool2d(3, 2, 1)
        return nn.Sequential(*_convolution(3, width, 7, 2), nn.ReLU(inplace=True), pool)
    stride = 2 if stem == "stride2" else 1
    return nn.Sequential(*_convolution(3, width, 3, stride), nn.ReLU(inplace=True))
