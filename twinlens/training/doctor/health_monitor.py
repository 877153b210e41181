"""The doctor inside the loop: when to measure, what to log, which verdicts to print.

What must stay true: each verdict is printed once; `twinlens doctor RUN` lists them all at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from twinlens.training.config import Config
from twinlens.training.data.pixels import PixelStore
from twinlens.training.doctor.examination import diagnose
from twinlens.training.doctor.measurements import (
    LossProbe,
    copy_parameters,
    measure_parameters,
    measure_representation,
    measure_updates,
    measure_variety,
)
from twinlens.training.doctor.verdict import SICK
from twinlens.training.evaluation.readings import Reading
from twinlens.training.nn.network import Network
from twinlens.training.runs.state import State


class HealthMonitor:
    """Measures at due steps and examines the log as it grows."""

    def __init__(
        self, config: Config, store: PixelStore, history: Sequence[Mapping[str, Any]]
    ) -> None:
        self.loss_probe = LossProbe(config.objective)
        self._config, self._store = config, store
        self._history = list(history)
        self._reported: set[str] = set()
        self._found = Reading()
        self._before: dict[str, list[Tensor]] = {}
        self._knows_variety = any("variety" in row for row in self._history)

    def begin_step(self, due: bool) -> None:
        """Begin a step; prepare measurements if they are due."""
        self.loss_probe.due = due and self._config.settings.doctor

    def after_backward(self, net: Network, state: State) -> None:
        """Measure between the backward pass and the optimizer step."""
        if self.loss_probe.due:
            self._found = self.loss_probe.take() | Reading(measure_parameters(net, state))
            self._before = copy_parameters(net)

    def after_step(self, net: Network, representation: Tensor) -> None:
        """Measure after the optimizer step."""
        if self.loss_probe.due:
            self._found |= Reading(measure_updates(net, self._before))
            self._found |= measure_representation(representation)
            self._before = {}
            if not self._knows_variety:
                self._found |= Reading({"variety": measure_variety(self._store)})
                self._knows_variety = True

    def take(self) -> Reading:
        """Return what the last due step measured."""
        found, self._found = self._found, Reading()
        return found

    def new_findings(self, row: Mapping[str, Any]) -> list[str]:
        """Return a line for each new fault after `row` was logged."""
        if not self._config.settings.doctor:
            return []
        self._history.append(row)
        found = [v for v in diagnose(self._config, self._history).verdicts if v.severity == SICK]
        fresh = [verdict for verdict in found if verdict.name not in self._reported]
        self._reported |= {verdict.name for verdict in fresh}
        return [f"doctor: {verdict.sentence()}" for verdict in fresh]
