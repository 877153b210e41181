"""Boxes of images, resized to one side: one by one on a CPU, as matrices on an accelerator.

Both are the antialiased bilinear filter restricted to the box. `cut_by_slices` works on bytes and
rounds to bytes, as image libraries do; `cut_by_matrices` does not round and needs a few launches
for a whole batch. What must stay true: they agree up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def cut(images: Tensor, boxes: Tensor, flip: Tensor, side: int) -> Tensor:
    """Return planes (n, 3, side, side) of 0..1: the boxes of images (n, H, W, 3), bytes.

    `boxes` (n, 4) and `flip` (n,), which mirrors, are on the CPU.
    """
    if images.device.type == "cpu":
        return cut_by_slices(images, boxes, flip, side)
    device = images.device
    return cut_by_matrices(images, boxes.to(device), flip.to(device), side)


def cut_by_slices(images: Tensor, boxes: Tensor, flip: Tensor, side: int) -> Tensor:
    """Cut each image separately: work proportional to the box, with torch's kernel for bytes."""
    planes = images.permute(0, 3, 1, 2)
    found = [
        interpolate(
            planes[i : i + 1, :, top : top + height, left : left + width],
            (side, side),
            mode="bilinear",
            antialias=True,
        )
        for i, (left, top, width, height) in enumerate(boxes.tolist())
    ]
    cut = torch.cat(found).contiguous(memory_format=torch.contiguous_format)
    mirrored = flip.nonzero()[:, 0]
    if len(mirrored):
        cut[mirrored] = cut[mirrored].flip(-1)
    return cut.float().mul_(1 / 255)


def cut_by_matrices(images: Tensor, boxes: Tensor, flip: Tensor, side: int) -> Tensor:
    """Cut all images by two batched products: rows @ plane @ columns^T."""
    n, tall, wide = images.shape[:3]
    left, top, width, height = boxes.float().unbind(1)
    columns = resampling(left, width, wide, side, flip)
    rows = resampling(top, height, tall, side, torch.zeros_like(flip))
    planes = images.permute(0, 3, 1, 2).float().mul_(1 / 255)
    narrow = planes.reshape(n, 3 * tall, wide) @ columns.mT  # (n, 3 H, side)
    return rows[:, None] @ narrow.view(n, 3, tall, side)


def resampling(start: Tensor, length: Tensor, side: int, out: int, flip: Tensor) -> Tensor:
    """Return matrices (n, out, side) that resample `length` pixels from `start` to `out` pixels.

    Triangle filter, widened when shrinking (antialiased bilinear); where `flip`, mirrored.
    """
    n = len(start)
    step = (length / out)[:, None]  # source pixels per output pixel
    index = torch.arange(out, device=start.device, dtype=start.dtype).expand(n, out)
    index = torch.where(flip[:, None], out - 1 - index, index)
    centre = start[:, None] + (index + 0.5) * step - 0.5
    pixel = torch.arange(side, device=start.device, dtype=start.dtype)
    distance = (pixel - centre[..., None]).abs_()
    weight = (1 - distance / step.clamp(min=1)[..., None]).clamp_(min=0)
    # The filter sees only pixels inside the box, as if cropped before resizing.
    inside = (pixel > start[:, None] - 1) & (pixel < (start + length)[:, None])
    weight *= inside[:, None, :]
    return weight / weight.sum(dim=-1, keepdim=True).clamp_(min=1e-6)
