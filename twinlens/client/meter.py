"""Progress of a long call: a bar on a terminal, or a callback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Self

ProgressOption = bool | Callable[[int, int], None]


class Meter:
    """Counts finished items, and shows the progress if requested."""

    def __init__(self, total: int, progress: ProgressOption) -> None:
        self._total = total
        self._done = 0
        self._call = progress if callable(progress) else None
        self._bar: Any = None
        if progress is True and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bars

            self._bar = Bars(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("asking the server", total=total)

    def advance(self, count: int) -> None:
        """Count items."""
        self._done += count
        if self._call is not None:
            self._call(self._done, self._total)
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
