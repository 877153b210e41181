"""SwAV: each view predicts the cluster that the other view was assigned to.

Caron et al. 2020, https://arxiv.org/abs/2006.09882. With unit rows z and unit prototypes C,
    q_t = Sinkhorn(z_t C / eps),    loss = mean over pairs (t, v), t != v, of CE(q_t, z_v C / T).
Assignments are balanced over the whole global batch, and over a queue of earlier embeddings of the
same large crop once it is full; they are compared with the current prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.nn.assignment import (
    balance_assignments,
    cross_view_entropy,
    describe_targets,
)
from twinlens.training.nn.heads import mlp
from twinlens.training.nn.network import Network
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Declaration,
    HealthSpec,
    LossInputs,
    Objective,
    ParamGroup,
    Queue,
    UnitRows,
    per_view,
    unit,
)
from twinlens.training.schedules import TrainingProgress
from twinlens.training.views.crops import Crops


@dataclass(frozen=True)
class SwAV(Objective):
    """Swapped prediction of balanced assignments, with multi-crop."""

    name: ClassVar[str] = "swav"
    summary: ClassVar[str] = "views predict each other's balanced cluster assignment"
    coupled: ClassVar[bool] = True
    health: ClassVar[HealthSpec] = HealthSpec(head="z", unit=("z",))

    prototypes: int = 512
    hidden: int = 512
    dim: int = 128
    temperature: float = 0.1
    sharpness: float = 0.05  # eps of Sinkhorn
    iterations: int = 3
    queue: int = 0  # embeddings of each large crop; for batches too small to balance
    queue_from: float = 0.0  # epochs
    frozen_epochs: float = 0.1  # of the prototypes
    crops: Crops = field(default_factory=lambda: Crops(scale_min=0.3))
    local: Crops = field(
        default_factory=lambda: Crops(4, size_ratio=0.5, scale_min=0.1, scale_max=0.4)
    )

    def views(self) -> Mapping[str, Crops]:
        """Two large crops, which are assigned, and small ones, which only predict."""
        return {"global": self.crops} | ({"local": self.local} if self.local.count else {})

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A two-layer projector, and the prototypes."""
        return {
            "projector": mlp((widths["image"], self.hidden, self.dim)),
            "prototypes": nn.Linear(self.dim, self.prototypes, bias=False),
        }

    def groups(self) -> tuple[ParamGroup, ...]:
        """Prototypes are frozen at first and never decay: their length is fixed."""
        return (ParamGroup("prototypes", decay=False, frozen_epochs=self.frozen_epochs),)

    def state(self) -> tuple[Declaration, ...]:
        """The prototypes' length, and a queue of each large crop's embeddings."""
        crops = range(self.crops.count) if self.queue else ()
        queues = (Queue(f"queue_{crop}", self.queue, self.dim, "z", crop) for crop in crops)
        return UnitRows("prototypes.weight"), *queues

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return z (n, 2, dim) of the large crops, and `small` of the others."""
        pairs = {
            name: per_view(net, ("image", "projector"), views)
            for name, views in batch.views.items()
        }
        small = {"small": pairs["local"][1]} if "local" in pairs else {}
        return {REPRESENTATION: pairs["global"][0], "z": pairs["global"][1], **small}

    def shared(self, net: Network) -> BatchRows:
        """Return the prototypes (k, dim)."""
        return {"prototypes": net["prototypes"].get_parameter("weight")}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the swapped cross-entropy, and what the doctor reads."""
        views = torch.cat(
            [inputs.student[name] for name in ("z", "small") if name in inputs.student], 1
        )
        prototypes = inputs.shared["prototypes"]
        scores = unit(views) @ prototypes.mT  # (n, v, k)
        assigned = range(inputs.student["z"].shape[1])
        targets = torch.stack(
            [self._assign(scores[:, crop], self._earlier(inputs, crop)) for crop in assigned], dim=1
        )
        loss = cross_view_entropy(targets, (scores / self.temperature).log_softmax(dim=-1))
        length = prototypes.detach().norm(dim=1).mean()
        return {"loss": loss, "prototype_length": length, **describe_targets(targets)}

    def chance(self, batch: int) -> float:
        """Ln K: every prototype is as likely."""
        return math.log(self.prototypes)

    def _assign(self, scores: Tensor, earlier: Tensor) -> Tensor:
        """Return assignments (n, k), balanced together with those of the queue."""
        together = torch.cat([earlier, scores.detach()]) / self.sharpness
        return balance_assignments(together, self.iterations)[-len(scores) :].to(scores.dtype)

    def _earlier(self, inputs: LossInputs, crop: int) -> Tensor:
        """Return the scores of the crop's queue; no rows before it starts and is full."""
        z, prototypes = inputs.student["z"], inputs.shared["prototypes"].detach()
        if not self._is_full(inputs.progress, len(z)):
            return z.new_empty(0, len(prototypes))
        return unit(inputs.state[f"queue_{crop}"].to(z.dtype)) @ prototypes.mT

    def _is_full(self, progress: TrainingProgress, batch: int) -> bool:
        """Tell whether `queue` embeddings of a crop have arrived since the queue's start."""
        begun = math.ceil(self.queue_from * progress.per_epoch)
        return self.queue > 0 and (progress.step - begun) * batch >= self.queue
