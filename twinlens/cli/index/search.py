"""`twinlens search`: search a collection by text, by image, or by both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import DeviceOption, Engines, Json, PrecisionOption, Threads, open_encoder
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.index.collection import Collection, Hit
    from twinlens.index.query.query import QueryPart


def search(
    folder: Annotated[Path, typer.Argument(help="Folder of the collection.", metavar="DIR")],
    query: Annotated[list[str] | None, typer.Argument(help="Texts to search for.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="An image to search for.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option("--not", help="A text to exclude.")] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.", min=1)] = 10,
    filter: Annotated[
        str | None, typer.Option(help="Metadata filter, e.g. 'label = \"cat\" and year >= 2020'.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Drop hits with a lower score.")] = None,
    group: Annotated[
        float | None, typer.Option(help="Group near-duplicates of at least this cosine, e.g. 0.98.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every item, without the index.")
    ] = False,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Default: the collection's own.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--open", help="Open a contact sheet in the browser.")
    ] = False,
    sheet: Annotated[Path | None, typer.Option(help="Write the contact sheet here.")] = None,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Search a collection; several texts and images are summed; best hits come first.

    [bold]Example:[/] twinlens search photos.index "a red bicycle" --filter 'year >= 2020'
    """
    from twinlens.index.collection import Collection
    from twinlens.index.query.query import embed_query

    parts = _parts(query or [], image or [], without or [])
    with Collection(folder) as collection:
        head = collection.head
        encoder = open_encoder(
            bundle or head.bundle_source or "builtin", precision, device, threads, engine
        )
        collection.require_bundle(encoder.revision, encoder.name)
        row = embed_query(parts, encoder, head.dim)
        if group is None:
            hits = collection.search(row, k, filter=filter, threshold=threshold, exact=exact)[0]
        else:
            hits = collection.search_grouped(
                row, k, similarity=group, filter=filter, threshold=threshold
            )
        unknown = _unknown_fields(collection, filter) if filter and not hits else ""
    _print(hits, json)
    if unknown:
        print_note(unknown)
    if show or sheet:
        _open_sheet(folder, " ".join(query or ["image"]), hits, sheet, show)


def _parts(texts: list[str], images: list[Path], without: list[str]) -> list[QueryPart]:
    from twinlens.index.query.query import QueryPart

    if not texts and not images:
        raise InputError("the query is empty; give a text, or an image with --image")
    return [
        *(QueryPart(text=text) for text in texts),
        *(QueryPart(image=path) for path in images),
        *(QueryPart(text=text, weight=-0.5) for text in without),
    ]


def _unknown_fields(collection: Collection, filter: str) -> str:
    """Return a note on filter fields that no item has: a typo would look like no hits."""
    from twinlens.index.query.filter_language import parse_filter
    from twinlens.index.query.filters import fields_of

    known = collection.snapshot().fields()
    unknown = sorted(fields_of(parse_filter(filter)) - known)
    if not unknown:
        return ""
    known_fields = ", ".join(sorted(known)) or "none"
    return f"no item has a field {' or '.join(unknown)}; the fields are: {known_fields}"


def _print(hits: list[Hit], json: bool) -> None:
    if json:
        print_json(
            [
                {"id": hit.id, "score": hit.score, "metadata": hit.metadata}
                | ({"duplicates": list(hit.duplicates)} if hit.duplicates else {})
                for hit in hits
            ]
        )
        return
    if not hits:
        print_note("no hits")
    for hit in hits:
        copies = f"  (+{len(hit.duplicates)} alike)" if hit.duplicates else ""
        typer.echo(f"{hit.score:.4f}  {hit.id}{copies}")


def _open_sheet(folder: Path, title: str, hits: list[Hit], sheet: Path | None, show: bool) -> None:
    from twinlens.index.gallery.contact_sheet import write_sheet

    place = write_sheet(hits, title, sheet or folder / "contact-sheet.html")
    print_note(f"contact sheet: {place}")
    if show:
        typer.launch(place.resolve().as_uri())
