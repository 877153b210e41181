"""`twinlens study NAME DATA --out FOLDER`: runs that differ in one thing, a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinlens.errors import InputError


def study(
    name: Annotated[str, typer.Argument(help="One of --list.")] = "",
    where: Annotated[str, typer.Argument(metavar="DATA", help="Labelled images.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the runs.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting for every run: key=value."),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Print the studies.")] = False,
) -> None:
    """Compare a few training runs that differ in one setting.

    [bold]Example:[/] twinlens study temperature photos/ --out studies/t --set epochs=5
    """
    from twinlens.cli.terminal import print_note
    from twinlens.training.progress import open_display
    from twinlens.training.studies.studies import (
        PLOT,
        STUDIES,
        TABLE,
        find_study,
        format_table,
        run_study,
    )

    if listing:
        typer.echo("\n".join(f"{key:<12} {item.question}" for key, item in STUDIES.items()))
        return
    chosen = find_study(name)
    if not where or out is None:
        raise InputError("give the data and --out FOLDER", field="--out" if where else "DATA")
    display = open_display()
    try:
        rows = run_study(chosen, where, out, sets or [], display)
    finally:
        display.close()
    typer.echo("\n".join(format_table(rows)))
    print_note(f"table and plot: {out / TABLE}, {out / PLOT}")
