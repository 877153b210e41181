"""Further loggers of a run: TensorBoard, MLflow, or a class of yours.

A tracker has three methods. What must stay true: the log is written first, and nothing that a
tracker does changes the training; a tracker that fails is left out from then on, with a message.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from twinlens.errors import InputError, MissingDependencyError


class Tracker(Protocol):
    """Receives what a run logs, in the first rank alone."""

    def begin(self, folder: Path, settings: Mapping[str, Any], step: int) -> None:
        """Start a run, or continue it after `step`: rows of later steps will be repeated."""
        ...

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Receive the numbers of one step."""
        ...

    def end(self) -> None:
        """End, for now or for good."""
        ...


class Trackers:
    """All trackers of a run."""

    def __init__(self, trackers: Mapping[str, Tracker], say: Callable[[str], None]) -> None:
        self._trackers, self._say = dict(trackers), say

    def begin(self, folder: Path, settings: Mapping[str, Any], step: int) -> None:
        """Start the run in each."""
        self._tell(lambda tracker: tracker.begin(folder, settings, step))

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send each the numbers of a step."""
        self._tell(lambda tracker: tracker.add(step, numbers))

    def end(self) -> None:
        """End each."""
        self._tell(lambda tracker: tracker.end())

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # foreign code must not end a run
                del self._trackers[name]
                self._say(f"tracker {name} failed and is left out: {error}")


class TensorBoardTracker:
    """Writes event files into RUN/tensorboard."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open: Any = SummaryWriter
        self._writer: Any = None

    def begin(self, folder: Path, settings: Mapping[str, Any], step: int) -> None:
        """Open the file; steps after `step` are purged from the board."""
        self._writer = self._open(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write a scalar for each number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def end(self) -> None:
        """Close the file."""
        self._writer.close()


class MlflowTracker:
    """Sends numbers to the server in MLFLOW_TRACKING_URI, or into a file store in RUN/mlflow."""

    def __init__(self) -> None:
        from twinlens.training.runs.mlflow_run import MlflowRun

        self._run = MlflowRun()

    def begin(self, folder: Path, settings: Mapping[str, Any], step: int) -> None:
        """Start an MLflow run, or continue that of the folder."""
        self._run.begin(folder, settings)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send the numbers in one request."""
        self._run.add(step, numbers)

    def end(self) -> None:
        """Mark the run as finished."""
        self._run.end()


KNOWN: Mapping[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
}
USUAL = "tensorboard"  # silently left out where it is not installed


def open_trackers(names: str, say: Callable[[str], None]) -> Trackers:
    """Return the trackers in a list of names: known ones, or MODULE:CLASS."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    found = {}
    for name in wanted:
        try:
            found[name] = KNOWN[name]() if name in KNOWN else _load(name)()
        except ImportError as error:
            if name != USUAL:
                raise MissingDependencyError(
                    f"trackers names {name}, which cannot be loaded: {error};"
                    " pip install 'twinlens[mlflow]' brings MLflow's"
                ) from None
    return Trackers(found, say)


def _load(name: str) -> Callable[[], Tracker]:
    module, _, attribute = name.partition(":")
    if not attribute:
        raise InputError(
            f"trackers names {name!r}; choose from {', '.join(KNOWN)}, or MODULE:CLASS for yours",
            field="trackers",
        )
    loaded = importlib.import_module(module)
    if not hasattr(loaded, attribute):
        raise InputError(f"trackers: {module} has no {attribute}", field="trackers")
    made: Callable[[], Tracker] = getattr(loaded, attribute)
    return made
