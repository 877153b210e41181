"""The doctor's rounds in the loop: when to measure, what to log, what to say aloud.

A verdict is spoken once; the whole list is always to be had by `twinlens doctor RUN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from twinlens.training.config import Config
from twinlens.training.data.pixels import PixelStore
from twinlens.training.doctor.measurements import (
    Vitals,
    Witness,
    copy_parameters,
    data_variety,
    parameter_vitals,
    representation_vitals,
    update_vitals,
)
from twinlens.training.doctor.verdicts import SICK, diagnose
from twinlens.training.nn.network import Network
from twinlens.training.runs.state import State


class Rounds:
    """Measures at due steps and examines the log as it grows."""

    def __init__(
        self, config: Config, store: PixelStore, history: Sequence[Mapping[str, Any]]
    ) -> None:
        self.witness = Witness(config.objective)
        self._config, self._store = config, store
        self._history = list(history)
        self._said: set[str] = set()
        self._found: Vitals = {}
        self._before: dict[str, list[Tensor]] = {}

    def open_step(self, due: bool) -> None:
        """Begin a step; measure only if it is due."""
        self.witness.due = due and self._config.settings.doctor

    def see_gradients(self, net: Network, state: State) -> None:
        """Look between backward pass and optimizer step."""
        if self.witness.due:
            self._found = self.witness.take() | parameter_vitals(net, state)
            self._before = copy_parameters(net)

    def see_step(self, net: Network, representation: Tensor) -> None:
        """Look after the optimizer step."""
        if self.witness.due:
            self._found |= update_vitals(net, self._before)
            self._found |= representation_vitals(representation)
            self._before = {}
            if not any("variety" in row for row in self._history):
                self._found["variety"] = data_variety(self._store)

    def take(self) -> Vitals:
        """Return what the last due step showed."""
        found, self._found = self._found, {}
        return found

    def alarm(self, row: Mapping[str, Any]) -> list[str]:
        """Return a line for each new sickness, now that the log has grown by `row`."""
        if not self._config.settings.doctor:
            return []
        self._history.append(row)
        found = [v for v in diagnose(self._config, self._history).verdicts if v.severity == SICK]
        fresh = [verdict for verdict in found if verdict.name not in self._said]
        self._said |= {verdict.name for verdict in fresh}
        return [f"doctor: {verdict.sentence()}" for verdict in fresh]
