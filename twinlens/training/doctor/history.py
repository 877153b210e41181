"""The log of a run as the doctor reads it: latest values, windows, the method's chance loss."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from twinlens.training.config import Config
from twinlens.training.objective import Objective
from twinlens.training.schedules import TrainingProgress

WINDOW = 3  # logged rows that a verdict needs: one outlier is not enough
HELD_OUT = "eval/"  # prefix of metrics on held-out data
READINGS = (
    "loss",
    "rank",
    "rank_me",
    "spread",
    "top_eigenvalue",
    "top5_eigenvalues",
    "head_rank",
    "head_spread",
    "positive_cosine",
    "teacher_entropy",
    "shared_entropy",
    "twin_gap",
    "gradient",
    "probe",
    "knn",
)


class History:
    """Rows of a log, oldest first."""

    def __init__(self, config: Config, rows: Sequence[Mapping[str, Any]]) -> None:
        self.config, self.rows = config, rows
        self.objective: Objective = config.objective
        self.chance = config.objective.chance(config.settings.batch)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def series(self, name: str) -> list[float]:
        """Return all values of a metric, in order."""
        return [float(row[name]) for row in self.rows if name in row]

    def last(self, name: str) -> float | None:
        """Return the latest value of a metric."""
        values = self.series(name)
        return values[-1] if values else None

    def recent(self, name: str) -> float | None:
        """Return the median over the last rows, or None while there are too few."""
        values = self.series(name)[-WINDOW:]
        return statistics.median(values) if len(values) == WINDOW else None

    def all_recent(self, name: str) -> list[float]:
        """Return the last rows' values, or none while there are too few."""
        values = self.series(name)[-WINDOW:]
        return values if len(values) == WINDOW else []

    def progress(self) -> TrainingProgress:
        """Return the progress of the run."""
        return TrainingProgress(self.step, max(self.step, self.config.settings.steps))

    def readings(self) -> dict[str, float]:
        """Return the latest key readings and the chance loss to compare with."""
        found = {name: value for name in READINGS if (value := self.last(name)) is not None}
        found |= {name: value for name in self._parts() if (value := self.last(name)) is not None}
        for name in self.held_out():
            found |= {
                f"{name} (last)": self.series(name)[-1],
                f"{name} (best)": max(self.series(name)),
            }
        return {"chance": self.chance, **found}

    def held_out(self) -> list[str]:
        """Return the names of the held-out metrics."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [
            name for name in names if name.startswith(HELD_OUT) and name != f"{HELD_OUT}seconds"
        ]

    def at_chance(self, tolerance: float = 0.01) -> bool:
        """Tell whether the loss is at its chance value."""
        loss = self.recent("loss")
        return loss is not None and math.isclose(
            loss, self.chance, rel_tol=tolerance, abs_tol=tolerance
        )

    def _parts(self) -> list[str]:
        rows = [row for row in self.rows if "loss" in row]
        names = rows[-1] if rows else {}
        return [name for name in names if name.startswith(("grad/", "update/"))]
