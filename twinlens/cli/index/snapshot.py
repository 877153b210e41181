"""`twinlens index snapshot`: a copy of a collection in use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from twinlens.cli.index.options import Folder
from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note


def snapshot(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="Folder of the copy.", metavar="OUT")],
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy every byte instead of linking files.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy a collection, even while it is searched and written; the copy is verified.

    [bold]Example:[/] twinlens index snapshot photos.index backup/photos.index
    """
    from twinlens.index.upkeep.backup import back_up

    report = back_up(folder, out, link=not copy)
    if json:
        print_json(dataclasses.asdict(report))
        return
    print_note(
        f"{out}: {report.items} items of commit {report.epoch}, verified"
        f" ({report.linked} files linked, {report.copied} copied)"
    )
