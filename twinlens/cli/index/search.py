"""`twinlens search`: search a collection by text, by image, or by both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.index.options import SourceArgument
from twinlens.cli.options import DeviceOption, Engines, Json, PrecisionOption, Threads, open_encoder
from twinlens.cli.terminal import link_path, print_json, print_note
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.bundle.calibration.calibration import CosineVerdict
    from twinlens.bundle.encoder import Encoder
    from twinlens.index.collection import Collection
    from twinlens.index.hits import Hit
    from twinlens.index.query.query import QueryPart
    from twinlens.index.searching.request import SearchOptions


def search(
    folder: SourceArgument,
    query: Annotated[list[str] | None, typer.Argument(help="Texts to search for.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="An image to search for.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option("--not", help="A text to exclude.")] = None,
    k: Annotated[int, typer.Option("--top-k", "-k", help="Number of hits.", min=1)] = 10,
    filter: Annotated[
        str | None, typer.Option(help="Metadata filter, e.g. 'label = \"cat\" and year >= 2020'.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Drop hits with a lower score.")] = None,
    group: Annotated[
        float | None, typer.Option(help="Group near-duplicates of at least this cosine, e.g. 0.98.")
    ] = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Also search captions for the words of the texts.")
    ] = False,
    fusion: Annotated[
        str, typer.Option(help="How --hybrid merges both lists: by `ranks` or by `weights`.")
    ] = "ranks",
    balance: Annotated[
        float, typer.Option(help="Weight of the words in --hybrid.", min=0, max=1)
    ] = 0.5,
    offset: Annotated[int, typer.Option(help="Hits to skip first.", min=0)] = 0,
    diversity: Annotated[
        float,
        typer.Option(help="0: most similar hits; towards 1: more different hits.", min=0, max=1),
    ] = 0.0,
    one_per: Annotated[
        str | None,
        typer.Option(
            help="Return only the best item for each value of this field.", metavar="FIELD"
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how the rows were searched, and both ranks.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every item, without the index.")
    ] = False,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Bundle; default: the collection's own.")
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
    """Search a collection, best hits first; several texts and images are added up.

    [bold]Example:[/] twinlens search photos.index "a red bicycle" --filter 'year >= 2020'
    """
    from twinlens.index.query.query import embed_query
    from twinlens.index.searching.request import SearchOptions
    from twinlens.index.searching.searching import search_collection
    from twinlens.index.stores.opening import open_collection

    parts = _parts(query or [], image or [], without or [])
    if hybrid and not query:
        raise InputError("--hybrid needs a text whose words it can search", field="hybrid")
    request = SearchOptions(
        k,
        offset,
        filter,
        threshold,
        exact,
        " ".join(query or []) if hybrid else None,
        fusion,
        balance,
        diversity,
        one_per,
        explain,
    )
    told: dict[str, Any] | None = None
    with open_collection(folder) as collection:
        place = collection.folder
        head = collection.head
        encoder = open_encoder(
            bundle or head.bundle_source or "builtin", precision, device, threads, engine
        )
        collection.require_bundle(encoder.revision, encoder.name)
        row = embed_query(parts, encoder, encoder.embedding_dim)
        if group is None:
            request = replace(request, revision=encoder.revision)
            answer = search_collection(collection, row, request)
            hits = list(answer.hits)
            told = {"path": answer.path, "reasons": list(answer.reasons)} if explain else None
        else:
            _refuse_with_group(request)
            hits = collection.search_grouped(
                row,
                k,
                similarity=group,
                filter=filter,
                threshold=threshold,
                revision=encoder.revision,
            )
        unknown = _unknown_fields(collection, filter) if filter and not hits else ""
        is_lone_text = len(parts) == 1 and bool(query) and request.is_by_cosine
        verdict = _judge(collection, encoder, hits) if is_lone_text else None
    _print(hits, json, told, verdict)
    if verdict is not None and verdict.none_of_these:
        print_note("nothing here matches: no hit is closer than chance")
    if unknown:
        print_note(unknown)
    if show or sheet:
        _open_sheet(place, " ".join(query or ["image"]), hits, sheet, show)


def _judge(collection: Collection, encoder: Encoder, hits: list[Hit]) -> CosineVerdict | None:
    """Return the calibrated verdict on the hits of a text; None without a calibration."""
    from twinlens.bundle.calibration.calibration import read_calibration
    from twinlens.index.searching.doubt import judge_hits

    calibration = read_calibration(encoder.manifest)
    return judge_hits(calibration, hits, collection.snapshot(), encoder.embedding_dim)


def _refuse_with_group(request: SearchOptions) -> None:
    """Refuse options that --group does not have."""
    plain = request.words is None and not (request.offset or request.diversity or request.one_per)
    if not plain or request.explain:
        raise InputError(
            "--group cannot be combined with --hybrid, --offset, --diversity, --one-per and"
            " --explain; leave it out",
            field="group",
        )


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


def _print(
    hits: list[Hit], json: bool, told: dict[str, Any] | None, verdict: CosineVerdict | None
) -> None:
    reasons = told["reasons"] if told else [None] * len(hits)
    shares = [None] * len(hits) if verdict is None else verdict.probabilities.tolist()
    if json:
        shown = [
            {"id": hit.id, "score": hit.score, "metadata": hit.metadata}
            | ({"duplicates": list(hit.duplicates)} if hit.duplicates else {})
            | ({"explain": reason} if reason else {})
            | ({} if share is None else {"calibrated": share})
            for hit, reason, share in zip(hits, reasons, shares, strict=True)
        ]
        print_json({"hits": shown, "path": told["path"]} if told else shown)
        return
    if not hits:
        print_note("no hits")
    for hit, reason, share in zip(hits, reasons, shares, strict=True):
        copies = f"  (+{len(hit.duplicates)} alike)" if hit.duplicates else ""
        worth = "" if share is None else f"  {share:.0%}"
        name = link_path(str(hit.metadata.get("path") or ""), hit.id)
        typer.echo(f"{hit.score:.4f}{worth}  {name}{copies}{_describe(reason)}")
    for line in _describe_path(told["path"]) if told else ():
        print_note(line)


def _describe(reason: dict[str, Any] | None) -> str:
    """Return the rank and score of a hit in each list."""
    parts = [
        f"{name} {one['rank']} ({one['score']:.4f})" if one else f"not in {name}"
        for name, one in (reason or {}).items()
    ]
    return f"  [{', '.join(parts)}]" if parts else ""


def _describe_path(path: dict[str, Any]) -> Iterator[str]:
    for part in path["parts"]:
        rest = ", ".join(
            f"{name} {value}" for name, value in part.items() if name not in ("part", "path")
        )
        yield f"{part['part']}: {part['path']}, {rest}"
    known = {name: value for name, value in path["recall"].items() if value is not None}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in known.items()) or "not measured"
    yield f"recall@10: {shown}" + (f", tuned to {path['tuned_to']}" if "tuned_to" in path else "")


def _open_sheet(folder: Path, title: str, hits: list[Hit], sheet: Path | None, show: bool) -> None:
    from twinlens.index.gallery.contact_sheet import write_sheet

    place = write_sheet(hits, title, sheet or folder / "contact-sheet.html")
    print_note(f"contact sheet: {link_path(place)}")
    if show:
        typer.launch(place.resolve().as_uri())
