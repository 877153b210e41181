"""MoCo v1 and v2: a view finds its EMA teacher's key among a queue of keys from earlier batches.

He et al. 2019, https://arxiv.org/abs/1911.05722; Chen et al. 2020,
https://arxiv.org/abs/2003.04297. With the student's q, its EMA teacher's k, both unit rows,
    loss = -log exp(q k / T) / (exp(q k / T) + sum over the queue of exp(q u / T)).
v1 has a linear head, v2 an MLP; `symmetric` adds the other direction. Keys pass through BatchNorm
in another order than queries (`shuffle`), which matters if statistics are per split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.contrast import moco_loss
from twinlens.training.nn.heads import mlp
from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Declaration,
    Ema,
    HealthSpec,
    LossInputs,
    Objective,
    Queue,
    per_view,
    unit,
)
from twinlens.training.schedules import Cosine
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class MoCo(Objective):
    """InfoNCE against a queue."""

    name: ClassVar[str] = "moco"
    summary: ClassVar[str] = "a view finds its EMA teacher's key among a queue of earlier keys"
    coupled: ClassVar[bool] = False
    health: ClassVar[HealthSpec] = HealthSpec(head="q", unit=("q",))

    temperature: float = 0.2
    queue: int = 4096
    hidden: int = 512  # width of the projector's hidden layer; 0 = a linear head, as in v1
    dim: int = 128
    symmetric: bool = True
    shuffle: bool = True
    follow: Cosine = Cosine(0.99, 0.99)  # momentum of the teacher
    crops: Crops = field(default_factory=Crops)

    def views(self) -> Mapping[str, Crops]:
        """Two equal views."""
        return {"global": self.crops}

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A linear or two-layer projector."""
        inner = (self.hidden,) if self.hidden else ()
        return {"projector": mlp((widths["image"], *inner, self.dim), norm=False)}

    def state(self) -> tuple[Declaration, ...]:
        """The EMA teacher and the queue of its keys."""
        queue = Queue("queue", self.queue, self.dim, "k")
        return Ema(("image", "projector"), self.follow), queue

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return queries q (n, 1 or 2, dim)."""
        seen, q = per_view(net, ("image", "projector"), self._asking(batch))
        return {REPRESENTATION: seen, "q": q}

    def teacher(self, net: Network, batch: Batch) -> BatchRows:
        """Return keys k: of the other view than q's, in q's order."""
        views = batch.views["global"].flip(1)[:, : self._asking(batch).shape[1]]
        order = torch.randperm(len(views)) if self.shuffle else torch.arange(len(views))
        order = order.to(views.device)
        _, k = per_view(net, ("image", "projector"), views[order])
        return {"k": unit(k[order.argsort()])}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return InfoNCE of each query with its key and the queue."""
        q, k = inputs.student["q"].flatten(0, 1), inputs.teacher["k"].flatten(0, 1)
        return {"loss": moco_loss(q, k, inputs.state["queue"].to(q.dtype), 1 / self.temperature)}

    def chance(self, batch: int) -> float:
        """ln(K + 1): every key is as likely."""
        return math.log(self.queue + 1)

    def _asking(self, batch: Batch) -> Tensor:
        views = batch.views["global"]
        return views if self.symmetric else views[:, :1]
