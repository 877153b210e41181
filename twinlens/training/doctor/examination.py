"""Examine a run that lies on disk, running, paused, finished or dead."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from twinlens.training.doctor.verdicts import Diagnosis, diagnose
from twinlens.training.runs.logs import read_log
from twinlens.training.runs.run import read_config


def examine(folder: Path) -> Diagnosis:
    """Return what the log of the run says."""
    return diagnose(read_config(folder), read_log(folder))


def describe(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain values, for JSON."""
    return {
        "state": diagnosis.state,
        "step": diagnosis.step,
        "verdicts": [dataclasses.asdict(verdict) for verdict in diagnosis.verdicts],
        "readings": dict(diagnosis.readings),
    }
