"""The peers: other implementations of the same loss, each as a function of x, y and scale.

Those that are not installed are left out. Each takes the raw embeddings and normalises them, as
ours does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

Clip = Callable[[Tensor, Tensor, Tensor], Tensor]


def find_clip_peers() -> dict[str, Clip]:
    """Return those of CLIP's loss that run here."""
    peers: dict[str, Clip] = {"torch eager": compute_eagerly}
    if torch.cuda.is_available():
        peers["torch.compile"] = torch.compile(compute_eagerly)
    if find_spec("open_clip"):
        peers["open_clip"] = _take_open_clip()
    if find_spec("inf_cl") and torch.cuda.is_available():
        peers["inf-cl"] = _take_inf_cl()
    return peers


def compute_eagerly(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return CLIP's loss by one full matrix in plain torch."""
    logits = scale * F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    labels = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _take_open_clip() -> Clip:
    from open_clip import ClipLoss

    plain = ClipLoss()

    def compute(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        value: Tensor = plain(F.normalize(x, dim=1), F.normalize(y, dim=1), scale)
        return value

    return compute


def _take_inf_cl() -> Clip:
    one_sided = importlib.import_module("inf_cl").cal_flash_loss

    def compute(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        u, v = F.normalize(x, dim=1), F.normalize(y, dim=1)
        value: Tensor = one_sided(u, v, scale=scale).mean() + one_sided(v, u, scale=scale).mean()
        return value / 2

    return compute
