"""Which bundles a server serves under which names, as its processes tell one another.

What must stay true: an entry's keys stand for one opening of one bundle, so two tables with the
same key mean the same embeddings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ServedEntry:
    """What is served under one name."""

    name: str
    source: str
    created: int
    slots: Mapping[str, Mapping[str, Any]]  # by precision: key, revision, provider, engines


@dataclass(frozen=True)
class ModelTable:
    """All that is served, default first."""

    entries: tuple[ServedEntry, ...] = field(default_factory=tuple)

    @staticmethod
    def parse(body: Iterable[Mapping[str, Any]]) -> ModelTable:
        """Return the table that another process wrote."""
        return ModelTable(tuple(ServedEntry(**entry) for entry in body))

    def write(self) -> list[dict[str, Any]]:
        """Return the table for another process."""
        return [asdict(entry) for entry in self.entries]

    @property
    def keys(self) -> set[str]:
        """The keys of all entries."""
        return {str(slot["key"]) for entry in self.entries for slot in entry.slots.values()}

    @property
    def names(self) -> list[str]:
        """The names, default first."""
        return [entry.name for entry in self.entries]

    def replace(self, new: ServedEntry) -> ModelTable:
        """Return the table with an entry, which replaces that of its name or is appended."""
        if new.name not in self.names:
            return ModelTable((*self.entries, new))
        return ModelTable(tuple(new if e.name == new.name else e for e in self.entries))

    def remove(self, name: str) -> ModelTable:
        """Return the table without a name."""
        return ModelTable(tuple(entry for entry in self.entries if entry.name != name))


def make_keys(name: str, precisions: Iterable[str]) -> dict[str, str]:
    """Return keys for an opening that begins now, by precision."""
    now = time.time_ns()
    return {precision: f"{name}/{precision}@{now}" for precision in precisions}


def make_entry(
    name: str, source: str, told: Iterable[Mapping[str, Mapping[str, Any]]]
) -> ServedEntry:
    """Return the entry of a bundle that encoder processes have opened; `told` is what each said."""
    first, *_ = told
    return ServedEntry(name, source, int(time.time()), first)
