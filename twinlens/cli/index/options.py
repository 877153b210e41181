"""Options that several commands about collections share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinlens.index.ann.kinds import list_kinds

Folder = Annotated[Path, typer.Argument(help="Folder of the collection.", metavar="DIR")]
SourceArgument = Annotated[
    str, typer.Argument(help="Folder of the collection, or a store's address.", metavar="DIR")
]
OptionalBundle = Annotated[
    str | None,
    typer.Option("--bundle", "-b", help="Bundle; default: the collection's own, else `builtin`."),
]
KindOption = Annotated[str, typer.Option(help=f"{list_kinds()}.")]
Target = Annotated[
    float,
    typer.Option(help="Recall@10 that every modality must reach.", min=0.5, max=0.999),
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Keep items that are not in this corpus.")]
Checksum = Annotated[
    bool,
    typer.Option("--checksum", help="Also read files whose size and time are unchanged."),
]
MaxDelete = Annotated[
    str | None,
    typer.Option(
        help="Most items to delete at once, e.g. 20% or 500; default: 20%, at least 10.",
        metavar="LIMIT",
    ),
]
Frames = Annotated[
    str,
    typer.Option(
        help="Seconds between frames of a video, `scenes` for one per scene, or `none`.",
        metavar="SECONDS",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="Metadata filter, e.g. 'label = \"cat\" and year >= 2020'.", metavar="FILTER"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]
