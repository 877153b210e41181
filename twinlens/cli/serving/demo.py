"""`twinlens demo`: draw an image corpus on this machine, index it, and serve it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.serving.browser import OpenPage
from twinlens.cli.terminal import print_json, print_note, track

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twinlens.demo import DemoCorpus
    from twinlens.demo.picture import Picture

BUNDLE = "builtin:photographs"  # knows the drawings too; `builtin` is served beside it


def demo(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder for images and collection; default: the user's cache."),
    ] = None,
    emoji: Annotated[
        bool, typer.Option(help="Draw the system's colour emoji, if a font is found.")
    ] = True,
    index: Annotated[bool, typer.Option(help="Index the images.")] = True,
    serve: Annotated[bool, typer.Option(help="Start the server.")] = True,
    port: Annotated[int, typer.Option(help="Port; 0 selects a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps classifiers, collections and jobs across restarts; default: "
            "the user's data folder."
        ),
    ] = None,
    allow_folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder from which the page may add pictures; repeatable.", metavar="DIR"
        ),
    ] = None,
    show: OpenPage = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and start no server.")] = False,
) -> None:
    """Create images, index them with a few photographs, and serve them.

    The images are the system's colour emoji, else drawn by code; the photographs come with the
    package. Images and collection are kept; a second call reuses them.

    [bold]Example:[/] twinlens demo --port 8000
    """
    from twinlens.cache import find_cache, find_data
    from twinlens.demo import draw_corpus, find_font

    base = folder or find_cache() / "demo"
    corpus = draw_corpus(
        base / ("emoji" if emoji else "drawings"),
        find=find_font if emoji else lambda: None,
        track=_show_progress,
    )
    state = "kept" if corpus.reused else "drawn"
    print_note(f"{corpus.count} pictures {state} from {corpus.source.what}: {corpus.table}")
    collection = _index(corpus) if index else None
    if json:
        print_json(_summarise(corpus, collection))
    elif collection is None:
        typer.echo(str(corpus.table))
    elif not serve:
        typer.echo(f'twinlens search {collection} "a dog"')
    else:
        kept = data or find_data() / "demo"
        _announce(host, port, kept)
        _serve(
            context,
            bundles=[BUNDLE, "builtin"],
            collection=[f"demo={collection}"],
            host=host,
            port=port,
            data=kept,
            allow_folder=allow_folder,
            show=show,
        )


def _index(corpus: DemoCorpus) -> Path:
    """Index the corpus beside its folder, one collection per version and encoder revision."""
    from twinlens.bundle.encoder import find_bundle
    from twinlens.bundle.store import read_manifest
    from twinlens.cli.index.index import build

    revision = read_manifest(find_bundle(BUNDLE)).revision
    collection = corpus.folder.with_name(
        f"{corpus.folder.name}-{corpus.source.version}-{revision[:12]}"
    )
    build(str(corpus.table), collection, bundle=BUNDLE, id_column="name")
    return collection


def _announce(host: str, port: int, data: Path) -> None:
    """Print an example search, and where things are kept."""
    if port:
        query = '{"collection": "demo", "text": "a dog", "k": 5}'
        address = f"http://{host}:{port}/search"
        print_note(f"search: curl -s {address} -H 'content-type: application/json' -d '{query}'")
    print_note(f"your classifiers and collections are kept in {data}")


def _serve(context: typer.Context, **options: Any) -> None:
    """Start the server with the options of `twinlens serve`."""
    from twinlens.cli.serving.serve import serve

    serve(context, **options)


def _summarise(corpus: DemoCorpus, collection: Path | None) -> dict[str, object]:
    return {
        "folder": str(corpus.folder),
        "table": str(corpus.table),
        "count": corpus.count,
        "source": corpus.source.what,
        "kept": corpus.reused,
        "collection": None if collection is None else str(collection),
    }


def _show_progress(pictures: Iterable[Picture], total: int) -> Iterable[Picture]:
    return track(pictures, "drawing", total)
