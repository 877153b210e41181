"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass

SICK, NOTE = "sick", "note"


@dataclass(frozen=True)
class Verdict:
    """What was seen, why it is probably so, and what to do about it."""

    name: str
    what: str
    cause: str
    remedy: str
    severity: str = SICK

    def sentence(self) -> str:
        """Return it in one line."""
        return f"{self.name}: {self.what}. Likely cause: {self.cause}. Remedy: {self.remedy}."
