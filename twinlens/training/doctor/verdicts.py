"""From a run's log to verdicts in plain words: what is wrong, why, what to do.

Causes come before consequences: a run that collapsed because its teacher is its student gets the
one verdict that helps. A flat loss alone is never called collapse: the same plateau stands over
runs whose embeddings improve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinlens.training.config import Config
from twinlens.training.doctor.checks import CAUSES, CONSEQUENCES, NOTES
from twinlens.training.doctor.history import History
from twinlens.training.doctor.verdict import NOTE, SICK, Verdict

HEALTHY, EARLY = "healthy", "too early to tell"
ENOUGH_STEPS = 50  # before them nothing is called healthy
EXIT_CODES = {HEALTHY: 0, SICK: 3, EARLY: 4}

__all__ = ["EARLY", "EXIT_CODES", "HEALTHY", "NOTE", "SICK", "Diagnosis", "Verdict", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """The state of a run, what was found, and the numbers that it rests on."""

    state: str
    step: int
    verdicts: tuple[Verdict, ...]
    readings: Mapping[str, float]

    @property
    def exit_code(self) -> int:
        """What the command answers to the shell."""
        return EXIT_CODES[self.state]


def diagnose(config: Config, rows: Sequence[Mapping[str, Any]]) -> Diagnosis:
    """Return what the log of a run says about its health."""
    history = History(config, rows)
    found = _ask(history, CAUSES) or _ask(history, CONSEQUENCES)
    state = SICK if found else HEALTHY
    if not found and (history.step < ENOUGH_STEPS or len(history) < 2):
        state = EARLY
    if state == HEALTHY:
        found = _ask(history, NOTES)
    return Diagnosis(state, history.step, tuple(found), history.readings())


def _ask(history: History, checks: Sequence[Any]) -> list[Verdict]:
    return [verdict for check in checks if (verdict := check(history)) is not None]
