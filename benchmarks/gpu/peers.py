"""The peers: other implementations of the same losses, as functions of x, y and their numbers.

Those that are not installed are left out. Each takes the raw embeddings and normalises them, as
ours does, except siglip-kernel, which needs unit rows; memeff accepts only a fixed temperature.
Versions timed: memeff 0.3.1, siglip-kernel 0.1.2, inf-cl 1.2.1 (all Apache-2.0).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Peer:
    """One implementation; `flat` if its memory does not grow with n x m."""

    compute: Callable[..., Tensor]
    flat: bool = False
    most: int = 1 << 20  # rows beyond which it is not timed


def find_clip_peers() -> dict[str, Peer]:
    """Return those of CLIP's loss that run here."""
    peers = {"torch eager": Peer(compute_eagerly)}
    _add_peer(peers, "open_clip", "open_clip", _take_open_clip)
    if not torch.cuda.is_available():
        return peers
    peers["torch.compile"] = Peer(torch.compile(compute_eagerly))
    _add_peer(peers, "memeff", "memeff", _take_memeff, flat=True)
    # A second at twice as many rows.
    _add_peer(peers, "inf-cl", "inf_cl", _take_inf_cl, flat=True, most=32_768)
    return peers


def _add_peer(
    peers: dict[str, Peer], name: str, module: str, take: Callable[[], Callable[..., Tensor]],
    **limits: Any,
) -> None:  # fmt: skip
    """Add a peer if it is installed; one that does not import is reported and left out."""
    if find_spec(module) is None:
        return
    try:
        peers[name] = Peer(take(), **limits)
    except ImportError as error:
        print(f"  {name} is installed and does not import: {str(error)[:80]}", flush=True)


def find_sigmoid_peers() -> dict[str, Peer]:
    """Return those of SigLIP's loss that run here."""
    if not (find_spec("siglip_kernel") and torch.cuda.is_available()):
        return {}
    return {"siglip-kernel": Peer(_take_siglip_kernel(), flat=True)}


def find_matryoshka_peers(widths: Sequence[int]) -> dict[str, Callable[..., Tensor]]:
    """Return those of CLIP's loss at several widths that run here."""
    if not (find_spec("memeff") and torch.cuda.is_available()):
        return {}
    fixed = importlib.import_module("memeff.mrl_clip_loss").MemoryEfficientMatryoshkaCLIPLoss(
        tuple(widths), temperature=0.01, stable=False
    )
    return {"memeff, one pass": lambda x, y, scale: fixed(x, y)}


def compute_eagerly(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return CLIP's loss by one full matrix in plain torch."""
    logits = scale * F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    labels = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _take_open_clip() -> Callable[..., Tensor]:
    from open_clip import ClipLoss

    plain = ClipLoss()

    def compute(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        value: Tensor = plain(F.normalize(x, dim=1), F.normalize(y, dim=1), scale)
        return value

    return compute


def _take_memeff() -> Callable[..., Tensor]:
    fixed = importlib.import_module("memeff").MemoryEfficientCLIPLoss(
        temperature=0.01, stable=False
    )

    def compute(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        value: Tensor = fixed(x, y)
        return value

    return compute


def _take_siglip_kernel() -> Callable[..., Tensor]:
    fused = importlib.import_module("siglip_kernel").fused_siglip_loss

    def compute(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        value: Tensor = fused(x, y, scale.log(), bias)
        return value

    return compute


def _take_inf_cl() -> Callable[..., Tensor]:
    one_sided = importlib.import_module("inf_cl").cal_flash_loss

    def compute(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        u, v = F.normalize(x, dim=1), F.normalize(y, dim=1)
        value: Tensor = one_sided(u, v, scale=scale).mean() + one_sided(v, u, scale=scale).mean()
        return value / 2

    return compute
