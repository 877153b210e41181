"""Everything that a run holds while it trains, and how it is saved."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twinlens.training.config import Config
from twinlens.training.data.feeder import Feeder
from twinlens.training.data.pixels import PixelStore
from twinlens.training.devices import is_accelerator
from twinlens.training.distributed.ranks import Ranks, leave_ranks
from twinlens.training.distributed.sharding import whole
from twinlens.training.doctor.health_monitor import HealthMonitor
from twinlens.training.evaluation.readings import Reading, StepNumbers
from twinlens.training.loop.capture import CapturedDifferentiator
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.loop.monitors import Monitors
from twinlens.training.loop.reporter import Reporter
from twinlens.training.loop.scaling import LossScaler
from twinlens.training.loop.validation import Validator
from twinlens.training.nn.network import Network
from twinlens.training.runs.checkpoints import (
    BEST,
    MONITORS,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    optimizer_tensors,
    save_checkpoint,
)
from twinlens.training.runs.logs import Log, NoLog
from twinlens.training.runs.run import BAD, CHECKPOINTS
from twinlens.training.runs.state import State

SAVES_PER_RUN = 10


@dataclass
class Session:
    """A run in memory; `step` optimizer steps are done."""

    config: Config
    folder: Path
    ranks: Ranks
    device: torch.device
    feeder: Feeder
    net: Network
    state: State
    optimizer: torch.optim.Optimizer
    differentiator: Differentiator | CapturedDifferentiator
    scaler: LossScaler
    monitors: Monitors
    health: HealthMonitor
    reporter: Reporter
    log: Log | NoLog
    total: int
    validator: Validator | None = None
    step: int = 0
    saved: int = 0
    loss: float = math.nan  # the last known one
    checked: tuple[str, ...] = ("loss",)  # must be finite in a line of the log
    _observed: Reading = field(default_factory=Reading)
    _stepped: int = 0  # steps since the last line of the log, and their seconds
    _seconds: float = 0.0

    @property
    def per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.feeder.order.per_epoch

    def save_due(self, step: int) -> bool:
        """Tell whether a checkpoint is due after `step`."""
        every = self.config.settings.save_every or max(1, math.ceil(self.total / SAVES_PER_RUN))
        return step % every == 0 or step == self.total

    def save(self) -> None:
        """Write a checkpoint: all ranks gather it, the first one writes."""
        tensors = {
            WEIGHTS: {name: whole(value) for name, value in self.net.parts.state_dict().items()},
            STATE: self.state.state_dict(),
            OPTIMIZER: optimizer_tensors(self.optimizer, self.net.parts),
            MONITORS: self.monitors.state(),
        }
        if self.ranks.first:
            found = Checkpoint(tensors, self._facts())
            save_checkpoint(self.folder / CHECKPOINTS, found, keep=self.config.settings.keep)
            _write_bad(self.folder, self.feeder.store)
        self.saved = self.step
        self.ranks.wait()

    def save_best(self) -> None:
        """Write what is served now as the best checkpoint."""
        if self.ranks.first:
            tensors = {WEIGHTS: self.net.parts.state_dict(), STATE: self.state.state_dict()}
            found = Checkpoint(tensors, self._facts())
            save_checkpoint(self.folder / CHECKPOINTS, found, keep=1, kind=BEST)
        self.ranks.wait()

    def validation_due(self, step: int) -> bool:
        """Tell whether a validation is due after `step` and has not been done."""
        return self.validator is not None and self.validator.due(step, self.total)

    def _facts(self) -> dict[str, Any]:
        """Return the facts of a checkpoint."""
        found = {"step": self.step, "world": self.ranks.world} | self.scaler.facts()
        return found | (self.validator.facts() if self.validator is not None else {})

    def observe(self, representation: Tensor, labels: Tensor, *, due: bool) -> None:
        """Update the monitors, on the first rank."""
        if not self.ranks.first or self.config.settings.monitor_share == 0:
            return
        if not is_accelerator(self.device):
            self._observed |= Reading(self.monitors.observe(representation, labels))
        elif due:
            self._observed |= self.monitors.read(representation, labels)

    def take_observations(self) -> Reading:
        """Return the monitors' numbers since the last call."""
        found, self._observed = self._observed, Reading()
        return found

    def count_step(self, seconds: float) -> None:
        """Add the duration of a step."""
        self._stepped += 1
        self._seconds += seconds

    def take_speed(self) -> StepNumbers:
        """Return images per second, and the share of the time spent waiting for images."""
        waited = self.feeder.take_waited()
        images = self.config.settings.batch * self._stepped
        seconds, self._stepped, self._seconds = self._seconds, 0, 0.0
        return {"images/s": round(images / seconds, 1), "waiting": round(waited / seconds, 4)}

    def close(self) -> None:
        """Close files and threads."""
        self.reporter.close()
        self.log.close()
        self.feeder.close()
        if self.validator is not None:
            self.validator.data.close()

    def leave(self) -> None:
        """Leave the process group at the end of a successful run."""
        leave_ranks(self.ranks)


def _write_bad(folder: Path, store: PixelStore) -> None:
    rows = [
        json.dumps({"file": store.source.records[record].key, "error": why})
        for record, why in sorted(store.bad.items())
    ]
    with contextlib.suppress(FileNotFoundError):
        (folder / BAD).unlink()
    if rows:
        (folder / BAD).write_text("\n".join(rows) + "\n", encoding="utf-8")
