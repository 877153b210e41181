"""A run as a run of MLflow, through its plain client: no global state, no background threads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

EXPERIMENT = "twinlens"
RUN_ID = "mlflow_run.txt"  # in the run's folder: which MLflow run a resumed run continues
MOST_PARAMS = 100  # parameters per request
LONGEST = 500  # length of a parameter that every server accepts


class MlflowRun:
    """One MLflow run."""

    def __init__(self) -> None:
        self._client: Any = None
        self._id = ""

    def begin(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Continue the MLflow run of the folder, or create one and log the settings."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        where = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlflow").absolute().as_uri()
        self._client = MlflowClient(tracking_uri=where)
        known = folder / RUN_ID
        if known.is_file():
            self._id = known.read_text(encoding="utf-8").strip()
            self._client.update_run(self._id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        self._id = self._client.create_run(experiment, run_name=folder.name).info.run_id
        known.write_text(self._id + "\n", encoding="utf-8")
        params = [Param(key, str(value)[:LONGEST]) for key, value in settings.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + MOST_PARAMS])

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send the numbers of a step."""
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def end(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)
