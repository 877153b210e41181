"""From a run's log to a diagnosis, while the run trains or later from its folder.

What must stay true: causes come before consequences, so that a run that collapsed because its
teacher is its student gets the one verdict that helps; a flat loss alone is never called collapse,
since runs whose embeddings improve have the same plateau.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinlens.training.config import Config
from twinlens.training.doctor.checks import CAUSES, CONSEQUENCES, Check
from twinlens.training.doctor.history import History
from twinlens.training.doctor.notes import NOTES
from twinlens.training.doctor.verdict import EARLY, HEALTHY, SICK, Diagnosis, Verdict
from twinlens.training.runs.logs import read_log
from twinlens.training.runs.run import read_config

ENOUGH_STEPS = 50  # steps before which no run is called healthy


def examine(folder: Path) -> Diagnosis:
    """Return the diagnosis of the run in `folder`: running, paused, finished or dead."""
    return diagnose(read_config(folder), read_log(folder))


def diagnose(config: Config, rows: Sequence[Mapping[str, Any]]) -> Diagnosis:
    """Return the diagnosis that follows from a run's log."""
    history = History(config, rows)
    found = _run_checks(history, CAUSES) or _run_checks(history, CONSEQUENCES)
    state = SICK if found else HEALTHY
    if not found and (history.step < ENOUGH_STEPS or len(history) < 2):
        state = EARLY
    if state == HEALTHY:
        found = _run_checks(history, NOTES)
    return Diagnosis(state, history.step, tuple(found), history.readings())


def describe(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain values, for JSON."""
    return {
        "state": diagnosis.state,
        "step": diagnosis.step,
        "verdicts": [dataclasses.asdict(verdict) for verdict in diagnosis.verdicts],
        "readings": dict(diagnosis.readings),
    }


def _run_checks(history: History, checks: Sequence[Check]) -> list[Verdict]:
    return [verdict for check in checks if (verdict := check(history)) is not None]
