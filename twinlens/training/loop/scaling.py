"""fp16: the loss is scaled up so that small gradients survive, and steps that overflow are skipped.

torch's GradScaler decides the scale. What must stay true: its state is in each checkpoint, and
without fp16 nothing is scaled and no step is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

FACT = "loss_scale"  # the state's name in a checkpoint
LEAST = 1.0  # a scale below this means that the gradient itself is not finite


class LossScaler:
    """The scale of the loss, and steps by it."""

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.enabled = enabled
        self._scaler = torch.amp.GradScaler(device.type, enabled=enabled)
        self._scaler.scale(torch.zeros((), device=device))  # no scale before the first call
        self.skipped = 0  # steps since `take`

    @property
    def scale(self) -> float:
        """The factor on the loss before its gradient is taken."""
        return float(self._scaler.get_scale())

    @property
    def patient(self) -> bool:
        """Whether a non-finite gradient may still be an overflow."""
        return self.enabled and self.scale >= LEAST

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, to measure or clip them."""
        if self.enabled:
            self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Take a step, or skip it and lower the scale if a gradient overflowed; tell which."""
        if not self.enabled:
            optimizer.step()
            return True
        before = self.scale
        self._scaler.step(optimizer)
        self._scaler.update()
        taken = self.scale >= before
        self.skipped += not taken
        return taken

    def take(self) -> dict[str, float]:
        """Return the scale and the number of steps skipped since the last call, for the log."""
        if not self.enabled:
            return {}
        skipped, self.skipped = self.skipped, 0
        return {"loss_scale": self.scale, "skipped_steps": float(skipped)}

    def facts(self) -> dict[str, Any]:
        """Return the facts for a checkpoint."""
        return {FACT: self._scaler.state_dict()} if self.enabled else {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Restore what `facts` returned."""
        if self.enabled and FACT in facts:
            self._scaler.load_state_dict(facts[FACT])
