"""Blends of two images of a batch: faded (mixup), or a box of one in the other (cutmix).

Zhang et al. 2017, https://arxiv.org/abs/1710.09412; Yun et al. 2019,
https://arxiv.org/abs/1905.04899. Each image has its own partner and share, drawn on the CPU. What
must stay true: `share` is exactly the part of the image that is left, since it weighs the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Blends:
    """How images are blended; with both alphas at 0 they stay unchanged."""

    mixup: float = 0.0  # alpha of the Beta distribution of shares; 0 = off
    cutmix: float = 0.0  # the same for boxes; with both on, each image draws one of them
    share: float = 1.0  # of the images that are blended


@dataclass(frozen=True)
class BlendPlan:
    """The draws for n images: partners, the shares that are left, and boxes of the partners."""

    partner: Tensor  # (n,) int64
    share: Tensor  # (n,): of the image itself, 0 to 1
    boxes: Tensor  # (n, 4) int64: left, top, right, bottom; all 0 for faded images


def draw_blends(generator: torch.Generator, blends: Blends, n: int, side: int) -> BlendPlan:
    """Draw the blends of n images of `side` pixels."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    draws = np.random.default_rng(seed)
    partner = draws.permutation(n)
    blended = draws.random(n) < (blends.share if blends.mixup or blends.cutmix else 0.0)
    cut = draws.random(n) < (0.5 if blends.mixup and blends.cutmix else float(blends.cutmix > 0))
    faded = draws.beta(blends.mixup, blends.mixup, n) if blends.mixup else np.ones(n)
    left = draws.beta(blends.cutmix, blends.cutmix, n) if blends.cutmix else np.ones(n)
    boxes = _boxes(draws, left, side) * (blended & cut)[:, None]
    uncovered = 1 - (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / side**2
    share = np.where(blended, np.where(cut, uncovered, faded), 1.0)
    return BlendPlan(
        torch.from_numpy(partner), torch.from_numpy(share).float(), torch.from_numpy(boxes)
    )


def blend(images: Tensor, plan: BlendPlan) -> Tensor:
    """Return images (n, 3, s, s) blended with their partners."""
    others = images[plan.partner.to(images.device)]
    boxed = plan.boxes.any(dim=1)
    shares = torch.where(boxed, torch.ones(()), plan.share).to(images)[:, None, None, None]
    blended = torch.lerp(others, images, shares)
    for place in boxed.nonzero()[:, 0].tolist():
        left, top, right, bottom = plan.boxes[place].tolist()
        blended[place, :, top:bottom, left:right] = others[place, :, top:bottom, left:right]
    return blended


def _boxes(
    draws: np.random.Generator, left: np.ndarray[tuple[int, ...], np.dtype[np.float64]], side: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return boxes of area 1 - `left` around a random middle, clipped at the borders."""
    length = side * np.sqrt(1 - left)
    middle = draws.integers(0, side, (len(left), 2))
    low = np.clip(np.floor(middle - length[:, None] / 2), 0, side)
    high = np.clip(np.floor(middle + length[:, None] / 2), 0, side)
    return np.concatenate([low, high], axis=1).astype(np.int64)
