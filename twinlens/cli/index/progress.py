"""Progress of a build on standard error: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.cli.terminal import print_note

if TYPE_CHECKING:
    from twinlens.index.ingest.intake import IndexingProgress

LINE_SECONDS = 10.0


class BuildDisplay:
    """Shows the progress of a build; use it in a `with` block, which restores the terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._printed = time.monotonic()

    def __enter__(self) -> BuildDisplay:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("indexing", total=None, rate="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: IndexingProgress) -> None:
        """Show the progress of the embedding."""
        rate = f"{progress.rate:.1f}/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.seen, total=progress.total, rate=rate)
            return
        if time.monotonic() - self._printed < LINE_SECONDS:
            return
        self._printed = time.monotonic()
        total = "" if progress.total is None else f" of {progress.total}"
        left = progress.seconds_left
        rest = "" if left is None else f", {left:.0f} s left"
        print_note(f"indexed {progress.seen}{total}, {rate}{rest}")

    def stage(self, what: str) -> None:
        """Show a stage without a count."""
        if self._bar is not None:
            self._bar.update(self._task, description=what)
        else:
            print_note(what)


def warn_of_pictures(warning: str | None, corpus: str, out: Path) -> None:
    """Print a build's warning, if there is one, with the command that helps."""
    if warning is not None:
        from twinlens.bundle.domain.domain_warning import suggest_build

        print_note(f"warning: {warning}, as in\n  {suggest_build(corpus, out)}")
