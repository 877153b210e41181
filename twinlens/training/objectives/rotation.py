"""Rotation: predict by how many quarter turns an image was rotated (Gidaris et al. 2018).

https://arxiv.org/abs/1803.07728. All four rotations of each image are in the batch; a linear layer
on the representation predicts the turn:
    loss = mean over images and rotations r of CE(W f(turn(x, r)), r).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.network import Network
from twinlens.training.objective import REPRESENTATION, Batch, BatchRows, LossInputs
from twinlens.training.objectives.mae import plain_crop
from twinlens.training.objectives.pretext import PretextTask
from twinlens.training.views.crops import Crops

TURNS = 4


@dataclass(frozen=True)
class Rotation(PretextTask):
    """Classification of quarter turns."""

    name: ClassVar[str] = "rotation"
    summary: ClassVar[str] = "predict by how many quarter turns an image was rotated"

    crops: Crops = field(default_factory=lambda: plain_crop())

    def views(self) -> Mapping[str, Crops]:
        """One crop, which is turned four times."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The linear layer."""
        return {"turns": nn.Linear(widths["image"], TURNS)}

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return logits (n, turns, turns) of each image turned in each way."""
        images = batch.views["global"][:, 0]
        turned = torch.stack([images.rot90(turn, (2, 3)) for turn in range(TURNS)], dim=1)
        seen = net["image"](turned.flatten(0, 1))
        logits = net["turns"](seen).unflatten(0, (len(images), TURNS))
        upright = seen.detach().unflatten(0, (len(images), TURNS))[:, :1]
        return {REPRESENTATION: upright, "logits": logits}

    def answers(self) -> int:
        """Four turns."""
        return TURNS

    def right(self, inputs: LossInputs) -> Tensor:
        """Return the turn of each row."""
        logits = inputs.student["logits"]
        return torch.arange(TURNS, device=logits.device).expand(len(logits), TURNS)
