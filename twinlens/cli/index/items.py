"""`twinlens index add`, `remove` and `list`: the items of a collection."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.index.building import bundle_for, fill_collection
from twinlens.cli.index.options import (
    Checksum,
    DryRun,
    Folder,
    Frames,
    KindOption,
    MaxDelete,
    OptionalBundle,
    SourceArgument,
    Target,
    Where,
    Yes,
)
from twinlens.cli.options import DeviceOption, Engines, Json, PrecisionOption, Threads, open_encoder
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.index.writer import Writer


def add(
    folder: Folder,
    corpus: Annotated[
        str, typer.Argument(help="Image folder, glob, .tar shards, .zip, .csv, .jsonl or .parquet.")
    ],
    bundle: OptionalBundle = None,
    id_column: Annotated[str | None, typer.Option(help="Column of a table that holds ids.")] = None,
    path_column: Annotated[
        str | None, typer.Option(help="Column of a table that holds image paths.")
    ] = None,
    checksum: Checksum = False,
    frames: Frames = "2",
    kind: KindOption = "auto",
    target: Target = 0.95,
    batch: Annotated[int, typer.Option(help="Images per batch of the encoder.", min=1)] = 32,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Add or update the images of CORPUS in a collection; other items do not change.

    [bold]Example:[/] twinlens index add photos.index new-photos/
    """
    from twinlens.bundle.image.video import parse_sampling
    from twinlens.index.ingest.builder import BuildOptions
    from twinlens.index.ingest.corpus import open_corpus
    from twinlens.index.maintenance import IndexPlan
    from twinlens.index.storage.catalog import Catalog

    Catalog(folder).close()  # an error says how to make a collection
    source = open_corpus(corpus, id_column=id_column, path_column=path_column)
    encoder = open_encoder(bundle_for(folder, bundle), precision, device, threads, engine)
    options = BuildOptions(batch=batch, keep=True, checksum=checksum, frames=parse_sampling(frames))
    fill_collection(folder, corpus, source, encoder, options, IndexPlan(kind, target), None, json)


def remove(
    folder: SourceArgument,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the items.")] = None,
    where: Where = None,
    max_delete: MaxDelete = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete items by id, or all that match a filter; image files are not deleted.

    [bold]Example:[/] twinlens index remove photos.index --where 'year < 2000' --yes
    """
    from twinlens.index.stores.opening import open_collection, open_writer

    if bool(ids) == (where is not None):
        raise InputError("give either ids or --where FILTER", field="where")
    if dry_run:
        with open_collection(folder) as collection:
            known = collection.catalog.by_id(ids or [])
            collection.require_fields(where) if where else None
            count = collection.count(where) if where else len(known)
            total = len(collection)
        _report(json, count, total, "would be deleted")
        return
    with open_writer(folder) as writer:
        count = (
            _remove_matching(writer, where, max_delete, yes) if where else writer.delete(ids or [])
        )
        total = len(writer.collection)
    if ids and count < len(ids):
        print_note(f"{len(ids) - count} of the {len(ids)} ids are not in {folder}")
    _report(json, count, total, "deleted")


def list_matching(
    folder: SourceArgument,
    where: Where = None,
    limit: Annotated[int | None, typer.Option(help="Most items to print.", min=1)] = None,
    offset: Annotated[int, typer.Option(help="Items to skip first.", min=0)] = 0,
) -> None:
    """Print items as JSON lines, oldest first, in a stable order.

    [bold]Example:[/] twinlens index list photos.index --where 'year >= 2020' --limit 100
    """
    import orjson

    from twinlens.index.stores.opening import open_collection
    from twinlens.index.upkeep.listing import list_items

    with open_collection(folder) as collection:
        if where:
            collection.require_fields(where)
        for item in list_items(collection, filter=where, limit=limit, offset=offset):
            typer.echo(orjson.dumps({"id": item.id, "metadata": item.metadata}).decode())


def captions(
    folder: Folder,
    fields: Annotated[
        list[str] | None, typer.Argument(help="Fields that hold captions; default: the usual ones.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Index all captions again, e.g. after damage.")
    ] = False,
) -> None:
    """Index captions for `search --hybrid`, which does this itself if nothing else writes.

    [bold]Example:[/] twinlens index captions photos.index caption title
    """
    from twinlens.index.writer import Writer

    with Writer(folder) as writer:
        writer.index_captions(fields, rebuild)
        print_note(f"{folder}: the captions of {len(writer.collection)} items are indexed")


def confirm(question: str, yes: bool) -> None:
    """Ask before deleting; without a terminal, refuse unless `--yes` was given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{question} Confirm with --yes, or check with --dry-run", field="yes")
    typer.confirm(question, abort=True)


def _remove_matching(writer: Writer, where: str, max_delete: str | None, yes: bool) -> int:
    from twinlens.index.upkeep.removal import check_removal, remove_matching

    collection = writer.collection
    collection.require_fields(where)
    count = collection.count(where)
    check_removal(count, len(collection), max_delete)
    if count:
        confirm(f"Delete {count} of {len(collection)} items of {collection.place}?", yes)
    return remove_matching(writer, where, max_delete)


def _report(json: bool, count: int, total: int, what: str) -> None:
    if json:
        print_json({"count": total, what.replace(" ", "_"): count})
    else:
        print_note(f"{count} items {what}, {total} in the collection")
