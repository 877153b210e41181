"""When a process that has ended is started again: at once, or later if it keeps ending soon."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

_SOON_SECONDS = 5.0  # a process that ends sooner than this after its start ended soon
_LONGEST_PAUSE = 5.0  # before one that ends soon, again and again, is started again

ProcessKey = tuple[str, int]  # its kind, and its number among those of its kind


class Restarts:
    """The restarts of a family: how many there were, and which are due."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.counts = dict.fromkeys(kinds, 0)
        self._ended_soon: dict[ProcessKey, int] = {}
        self._starting_at: dict[ProcessKey, float] = {}

    def plan(self, key: ProcessKey, began: float) -> None:
        """Plan the restart of a process that was started at `began` and has ended."""
        is_soon = time.monotonic() - began < _SOON_SECONDS
        self._ended_soon[key] = self._ended_soon.get(key, 0) + 1 if is_soon else 0
        pause = min(_LONGEST_PAUSE, 0.1 * 2 ** self._ended_soon[key]) if is_soon else 0.0
        self._starting_at[key] = time.monotonic() + pause
        self.counts[key[0]] += 1

    def take_due(self, ending: Collection[str]) -> list[ProcessKey]:
        """Return the processes to start now; those of kinds that are `ending` are dropped."""
        for key in [key for key in self._starting_at if key[0] in ending]:
            del self._starting_at[key]
        due = [key for key, at in self._starting_at.items() if time.monotonic() >= at]
        for key in due:
            del self._starting_at[key]
        return due

    def describe(self) -> list[Any]:
        """Return the counts as a dump of metrics."""
        samples = [
            ["twinlens_process_restarts_total", {"process": kind}, count]
            for kind, count in self.counts.items()
        ]
        return [["twinlens_process_restarts", "Processes started again", "counter", samples]]
