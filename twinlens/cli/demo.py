"""`twinlens demo`: draw a picture corpus on this machine, to try an index and a search on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note, track

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twinlens.index.demo.picture import Picture


def demo(
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the pictures go; default a folder in the user's cache."),
    ] = None,
    emoji: Annotated[
        bool, typer.Option(help="Draw the system's colour emoji, where a font is found.")
    ] = True,
    json: Json = False,
) -> None:
    """Draw the demo corpus: the system's colour emoji, else shapes, letters, animals and things.

    Drawn once and kept; a second call takes no time.

    [bold]Example:[/] twinlens demo
    """
    from twinlens.index.demo import draw_corpus, find_cache, find_font

    corpus = draw_corpus(
        folder or find_cache() / ("demo" if emoji else "demo-drawings"),
        find=find_font if emoji else lambda: None,
        track=_show_progress,
    )
    if json:
        print_json(
            {
                "folder": str(corpus.folder),
                "table": str(corpus.table),
                "count": corpus.count,
                "source": corpus.source.what,
                "kept": corpus.kept,
            }
        )
        return
    state = "kept" if corpus.kept else "drawn"
    print_note(f"{corpus.count} pictures {state} from {corpus.source.what}")
    typer.echo(str(corpus.table))


def _show_progress(pictures: Iterable[Picture], total: int) -> Iterable[Picture]:
    return track(pictures, "drawing", total)
