"""What the doctor finds: a verdict, a diagnosis, and the states that a run can be in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SICK, NOTE = "sick", "note"
HEALTHY, EARLY = "healthy", "too early to tell"
EXIT_CODES = {HEALTHY: 0, SICK: 3, EARLY: 4}


@dataclass(frozen=True)
class Verdict:
    """What was seen, the likely cause, and the remedy."""

    name: str
    what: str
    cause: str
    remedy: str
    severity: str = SICK

    def sentence(self) -> str:
        """Return it in one line."""
        return f"{self.name}: {self.what}. Likely cause: {self.cause}. Remedy: {self.remedy}."


@dataclass(frozen=True)
class Diagnosis:
    """The state of a run, the verdicts, and the readings they rest on."""

    state: str
    step: int
    verdicts: tuple[Verdict, ...]
    readings: Mapping[str, float]

    @property
    def exit_code(self) -> int:
        """The exit code of `twinlens doctor`."""
        return EXIT_CODES[self.state]
