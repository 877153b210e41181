"""Where numbers are logged: `log.jsonl` always, then the run's trackers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinlens.errors import TwinlensError
from twinlens.training.runs.trackers import Trackers

LOG = "log.jsonl"


class Log:
    """Appends rows of numbers; it first drops the rows of steps that a resume will repeat."""

    def __init__(self, folder: Path, *, from_step: int, trackers: Trackers | None = None) -> None:
        self.path = folder / LOG
        rows = [row for row in read_log(folder) if row["step"] <= from_step]
        self._file = self.path.open("w", encoding="utf-8")
        for row in rows:
            self._write(row)
        self._trackers = trackers or Trackers({}, lambda line: None)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write one row."""
        self._write({"step": step, **numbers})
        self._trackers.add(step, numbers)

    def close(self) -> None:
        """Close the files."""
        with contextlib.suppress(OSError):  # the write has already reported a full disk
            self._file.close()
        self._trackers.end()

    def _write(self, row: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise TwinlensError(
                f"cannot write {self.path}: {error.strerror}; saved checkpoints are intact."
                " Free some space and run the same command again",
                code="log_failed",
            ) from error


class NoLog:
    """Discards rows: the log of all ranks but the first."""

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Discard the row."""

    def close(self) -> None:
        """Nothing to close."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's log, without a last line truncated by a crash."""
    path = folder / LOG
    rows = []
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    for line in lines[:-1]:
        rows.append(json.loads(line))
    return rows
