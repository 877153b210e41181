"""CLIP: images and their captions find each other (Radford et al. 2021).

https://arxiv.org/abs/2103.00020. With unit rows x, y and a learned scale s <= 100,
    loss = [CE(s x y^T, diagonal) + CE(s y x^T, diagonal)] / 2.
The scale is learned as a logarithm and clamped in place after each step, never in the loss.

With `hard_negatives`, captions that are almost true of the images are further columns among the
texts that an image chooses from (Yuksekgonul et al. 2023, https://arxiv.org/abs/2210.01936); no
image row belongs to them.

With `locked`, the image tower is frozen and its embeddings are computed once (LiT: Zhai et al.
2022, https://arxiv.org/abs/2111.07991): the same loss, and only the text side trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.contrast import clip_loss, one_way_loss
from twinlens.training.nn.network import Network, ScalarParameter
from twinlens.training.objective import (
    LOCKED,
    REPRESENTATION,
    Batch,
    BatchRows,
    Captions,
    Clamp,
    Declaration,
    Extra,
    HealthSpec,
    Locked,
    LossInputs,
    Objective,
    per_view,
)
from twinlens.training.views.crops import Crops

CLIP_MAX_SCALE = 100.0
PATHS = {"image": ("image", "image_projection"), "text": ("text", "text_projection")}


@dataclass(frozen=True)
class CLIP(Objective):
    """Symmetric InfoNCE between two towers."""

    name: ClassVar[str] = "clip"
    summary: ClassVar[str] = "images and captions find each other among the batch"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="x", unit=("x", "y", "wrong"))
    needs: ClassVar[tuple[str, ...]] = ("captions",)
    paths: ClassVar[Mapping[str, tuple[str, ...]]] = PATHS

    dim: int = 256  # width of the shared space; 0 = the image tower's
    locked: bool = False  # the image tower is frozen, and its embeddings are computed once
    hard_negatives: int = 0  # captions almost true of an image: its `negatives`, or generated
    scale_init: float = 1 / 0.07
    crops: Crops = field(default_factory=lambda: gentle_crops())

    def views(self) -> Mapping[str, Crops]:
        """One weak crop."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A linear projection for each tower, and the learned scale."""
        return project_towers(widths, self.dim) | {
            "scale": ScalarParameter(math.log(self.scale_init))
        }

    def state(self) -> tuple[Declaration, ...]:
        """The bounds of the scale."""
        return (Clamp("scale.value", 0.0, math.log(CLIP_MAX_SCALE)),)

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return image rows x and text rows y (n, dim); of hard negatives `wrong` (n, h, dim)."""
        rows = embed_pairs(net, batch)
        if not self.hard_negatives:
            return rows
        tokens = batch.extra["negatives"]
        wrong = embed_texts(net, tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        return rows | {"wrong": wrong}

    def extras(self) -> tuple[Extra, ...]:
        """Captions, hard negatives if set, and a locked image tower's embeddings."""
        return Captions(self.hard_negatives), *lock(self.locked)

    def shared(self, net: Network) -> BatchRows:
        """Return the scale."""
        return {"scale": net["scale"]().exp()}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the symmetric InfoNCE."""
        scale, rows = inputs.shared["scale"], inputs.student
        x, y = rows["x"], rows["y"]
        if "wrong" not in rows:
            return {"loss": clip_loss(x, y, scale), "scale": scale}
        texts = torch.cat([y, rows["wrong"].flatten(0, 1)])
        ways = (one_way_loss(x, texts, scale) + one_way_loss(y, x, scale)) / 2
        return {"loss": ways, "scale": scale}

    def chance(self, batch: int) -> float:
        """Ln n: every caption is equally likely; hard negatives add choices in one direction."""
        return math.log(batch) + math.log(1 + self.hard_negatives) / 2


def gentle_crops() -> Crops:
    """Return a view that keeps what captions may describe: left and right, colours, the whole."""
    return Crops(
        1,
        scale_min=0.6,
        flip=0.0,
        jitter=0.5,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.0,
        grey=0.0,
        blur=(0.0,),
    )


def project_towers(widths: Mapping[str, int], dim: int) -> dict[str, nn.Module]:
    """Return a linear projection without bias for each tower.

    With `dim` 0 the space is the image tower's own: only a text tower of another width is
    projected.
    """
    return {
        f"{side}_projection": nn.Identity()
        if not dim and widths[side] == widths["image"]
        else nn.Linear(widths[side], dim or widths["image"], bias=False)
        for side in PATHS
    }


def embed_pairs(net: Network, batch: Batch) -> BatchRows:
    """Return image rows x and text rows y (n, dim) of a batch.

    A locked image tower's rows are precomputed; monitors then observe the text tower.
    """
    if LOCKED in batch.extra:
        tower, projection = PATHS["text"]
        read = net[tower](batch.extra["tokens"])
        x = net[PATHS["image"][-1]](batch.extra[LOCKED])
        return {REPRESENTATION: read.detach()[:, None], "x": x, "y": net[projection](read)}
    seen, x = per_view(net, PATHS["image"], batch.views["global"][:, :1])
    return {REPRESENTATION: seen, "x": x[:, 0], "y": embed_texts(net, batch.extra["tokens"])}


def lock(locked: bool) -> tuple[Locked, ...]:
    """Return the extras of a method with a locked image tower."""
    return (Locked(),) if locked else ()


def embed_texts(net: Network, tokens: Tensor) -> Tensor:
    """Return rows (n, dim) of tokens (n, length)."""
    tower, projection = PATHS["text"]
    y: Tensor = net[projection](net[tower](tokens))
    return y
