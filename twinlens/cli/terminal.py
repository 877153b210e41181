"""Output shared by all commands: progress, one-line errors, JSON for scripts.

Results go to standard output, everything else to standard error, so that a pipe carries only the
result.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import TypeVar

import orjson
import typer

TrackedT = TypeVar("TrackedT")

_QUIET_SECONDS = 2.0  # shorter work shows no progress
_LINE_SECONDS = 10.0  # without a terminal: at most one line in this time


def print_error(message: str) -> None:
    """Print one line to standard error."""
    prefix = typer.style("error:", fg="red", bold=True) if sys.stderr.isatty() else "error:"
    typer.echo(f"{prefix} {message}", err=True)


def print_note(message: str) -> None:
    """Print one line to standard error that is not part of the result."""
    typer.echo(message, err=True)


def is_terminal() -> bool:
    """Return whether people read standard output as it comes."""
    return sys.stdout.isatty()


def link_path(path: str | Path, text: str | None = None) -> str:
    """Return a path, or `text` instead, as a link that a terminal opens; plain in a pipe."""
    shown = str(path) if text is None else text
    place = Path(path)
    if not is_terminal() or not place.exists():
        return shown
    return f"\033]8;;{place.resolve().as_uri()}\033\\{shown}\033]8;;\033\\"


def print_json(value: object) -> None:
    """Print `value` as JSON; NumPy arrays and scalars are allowed."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    typer.echo(orjson.dumps(value, option=options).decode())


def track(items: Iterable[TrackedT], what: str, total: int) -> Iterator[TrackedT]:
    """Yield `items` with progress on standard error: a bar on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        yield from _track_with_bar(items, what, total)
    else:
        yield from _track_with_lines(items, what, total)


def _track_with_bar(items: Iterable[TrackedT], what: str, total: int) -> Iterator[TrackedT]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total, visible=False)
        for item in items:
            yield item
            progress.update(task, advance=1, visible=monotonic() - started > _QUIET_SECONDS)


def _track_with_lines(items: Iterable[TrackedT], what: str, total: int) -> Iterator[TrackedT]:
    started = printed = monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = monotonic()
        if now - started > _QUIET_SECONDS and (now - printed > _LINE_SECONDS or done == total):
            printed = now
            rate = done / (now - started)
            print_note(
                f"{what}: {done} of {total}, {rate:.1f}/s, {(total - done) / rate:.0f} s left"
            )
