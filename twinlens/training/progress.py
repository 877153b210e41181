"""Progress while training: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 10.0  # seconds between lines without a terminal


class Display(Protocol):
    """Shows progress."""

    def say(self, text: str) -> None:
        """Show one line."""
        ...

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Show the progress of `what`."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


class Silent:
    """Shows nothing: for other ranks, and for callers who want no output."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Ignore it."""

    def close(self) -> None:
        """Nothing to end."""


class LineDisplay:
    """Plain lines, at most one in ten seconds, and one at each end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = -LINE_SECONDS

    def say(self, text: str) -> None:
        """Print the line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        if done < total and now - self._last < LINE_SECONDS:
            return
        self._last = now
        self.say(f"{what} {done}/{total}  {_words(numbers)}".rstrip())

    def close(self) -> None:
        """Nothing to end."""


class Bar:
    """A live bar with loss, throughput and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._progress.start()
        self._tasks: dict[str, object] = {}

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Move the bar of `what`."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, numbers="")
        task = self._tasks[what]
        self._progress.update(task, completed=done, numbers=_words(numbers))  # type: ignore[arg-type]

    def close(self) -> None:
        """End the bar."""
        self._progress.stop()


def open_display() -> Display:
    """Return the display that suits the output."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else LineDisplay(console)


def _words(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
