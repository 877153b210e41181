"""Supervised fine-tuning, end to end, of any encoder; its head is a class bank and is served.

With the unit representation x, unit class rows w_c and a learned scale s <= 100,
    loss = cross-entropy of softmax(s x W^T) with the labels, smoothed by `smoothing`;
an image blended with another (mixup, cutmix) has both labels, weighted by their shares.

A bundle returns unit rows and the head reads unit rows, so the served classifier is exactly the
trained one. With `ema` the running mean of the weights is evaluated, exported and served.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

from torch import Tensor, nn

from twinlens.errors import InputError
from twinlens.training.nn.network import Network, ScalarParameter
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Clamp,
    Declaration,
    Ema,
    Extra,
    HealthSpec,
    LossInputs,
    Objective,
    unit,
)
from twinlens.training.schedules import Cosine
from twinlens.training.views.blends import Blends
from twinlens.training.views.crops import Crops

MAX_SCALE = 100.0
PARTS = ("image", "classes", "scale")


@dataclass(frozen=True)
class FineTune(Objective):
    """Cross-entropy over the classes of the data."""

    name: ClassVar[str] = "finetune"
    summary: ClassVar[str] = "classify labelled images; the head is served too"
    coupled: ClassVar[bool] = False
    health: ClassVar[HealthSpec] = HealthSpec(head="z", unit=("z",))
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    served: ClassVar[Literal["student", "teacher"]] = "teacher"  # a running mean of the weights

    classes: int = 0  # 0 = as many as the data have
    smoothing: float = 0.1  # of the labels: this share goes to all classes equally
    ema: float = 0.99  # EMA factor of the weights per step; 0 = no running mean
    scale_init: float = 10.0
    blends: Blends = field(default_factory=Blends)
    crops: Crops = field(default_factory=lambda: labelled_crops())

    def views(self) -> Mapping[str, Crops]:
        """One view."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Blends, with the partners' labels."""
        return (self.blends,)

    def is_fitted(self) -> bool:
        """Tell whether the number of classes is known."""
        return self.classes > 0

    def fit(self, classes: int) -> Self:
        """Return the method for data with so many classes."""
        if classes < 2:
            raise InputError(
                f"the data have {classes} class; finetune tells at least two apart", field="DATA"
            )
        if self.classes not in (0, classes):
            raise InputError(
                f"classes is {self.classes}, and the data have {classes}; --set classes=0",
                field="classes",
            )
        return replace(self, classes=classes)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """A row for each class, and the learned scale."""
        return {
            "classes": nn.Linear(widths["image"], self.classes, bias=False),
            "scale": ScalarParameter(math.log(self.scale_init)),
        }

    def state(self) -> tuple[Declaration, ...]:
        """The bounds of the scale, and the running mean of all weights."""
        bounds = Clamp("scale.value", 0.0, math.log(MAX_SCALE))
        if not self.ema:
            return (bounds,)
        return bounds, Ema(PARTS, Cosine(self.ema, self.ema), statistics=True)

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return z (n, width)."""
        z = net["image"](batch.views["global"][:, 0])
        return {REPRESENTATION: z.detach()[:, None], "z": z}

    def shared(self, net: Network) -> BatchRows:
        """Return the class rows (classes, width) and the scale."""
        return {"classes": net["classes"].get_parameter("weight"), "scale": net["scale"]().exp()}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the cross-entropy, and the training accuracy on the image's own label."""
        rows, scale = unit(inputs.shared["classes"]), inputs.shared["scale"]
        logs = (scale * unit(inputs.student["z"]) @ rows.mT).log_softmax(dim=1)
        labels, other = inputs.extra["labels"], inputs.extra["other"]
        kept = inputs.extra["kept"].to(logs)
        own, partners = (logs.gather(1, some[:, None])[:, 0] for some in (labels, other))
        sharp = (kept * own + (1 - kept) * partners).mean()
        loss = -(1 - self.smoothing) * sharp - self.smoothing * logs.mean()
        right: Tensor = (logs.detach().argmax(dim=1) == labels).to(logs.dtype).mean()
        return {"loss": loss, "accuracy": right, "scale": scale}

    def chance(self, batch: int) -> float:
        """Ln of the classes: each is as likely."""
        return math.log(max(2, self.classes))


def labelled_crops() -> Crops:
    """Return a view in its own colours: labels may depend on them."""
    return Crops(1, scale_min=0.35, jitter=0.0, grey=0.0, blur=(0.0,))
