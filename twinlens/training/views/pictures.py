"""Pictures of several sizes in one tensor: each at the top left of a canvas that holds all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pictures:
    """The input of views: `canvas` (n, H, W, 3), bytes, and `sizes` (n, 2), on the CPU.

    A size is height and width; the rest of the canvas is never read.
    """

    canvas: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device) -> Pictures:
        """Return the pictures with their canvas on a device."""
        return Pictures(self.canvas.to(device, non_blocking=True), self.sizes)


def whole_pictures(images: Tensor) -> Pictures:
    """Return images of one size (n, H, W, 3), bytes, as pictures."""
    return Pictures(images, torch.tensor(images.shape[1:3]).expand(len(images), 2))


def lay_out(images: Sequence[NDArray[np.uint8]], device: torch.device = CPU) -> Pictures:
    """Return images (h, w, 3) of any sizes on the smallest canvas that holds them all.

    It is in CPU memory from which a copy to `device` need not wait.
    """
    sizes = torch.tensor([image.shape[:2] for image in images])
    height, width = sizes.amax(dim=0).tolist()
    shape = len(images), height, width, 3
    canvas = torch.zeros(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for place, image in zip(canvas.numpy(), images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return Pictures(canvas, sizes)
