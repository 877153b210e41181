"""`twinlens index reembed`: move a collection to another bundle, and back."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.index.building import source_of
from twinlens.cli.index.options import Folder, KindOption, Target
from twinlens.cli.index.progress import BuildDisplay
from twinlens.cli.options import DeviceOption, Engines, Json, PrecisionOption, Threads, open_encoder
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError, LockedError, TwinlensError

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder
    from twinlens.index.collection import Collection
    from twinlens.index.maintenance import IndexPlan
    from twinlens.index.upkeep.bundle_comparison import BundleComparison
    from twinlens.index.upkeep.embedding_set import BundleEmbeddings, QuerySample
    from twinlens.index.upkeep.embedding_swap import SwapReport
    from twinlens.index.writer import Writer

LOCK_SECONDS = 60.0  # a server releases a collection two seconds after its last write


def reembed(
    folder: Folder,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="The bundle to move to.", metavar="BUNDLE")
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap", help="Then switch to the new embeddings, in one commit.")
    ] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Go back to the embeddings that the last swap replaced.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove embeddings that were not swapped in.")
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete items whose image cannot be read again.")
    ] = False,
    queries: Annotated[
        Path | None, typer.Option(help="Text queries for the comparison, one per line.")
    ] = None,
    kind: KindOption = "auto",
    target: Target = 0.95,
    batch: Annotated[int, typer.Option(help="Images per batch of the encoder.", min=1)] = 32,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Embed all items with another bundle, compare with the old embeddings, and swap.

    Searches and writes continue; rerun the command to resume.

    [bold]Example:[/] twinlens index reembed photos.index --bundle new.bundle --swap
    """
    from twinlens.index.maintenance import IndexPlan
    from twinlens.index.upkeep.embedding_swap import find_previous
    from twinlens.index.upkeep.reembedding import discard as remove

    if sum((bundle is not None, back, discard)) != 1:
        raise InputError("give one of --bundle, --back and --discard", field="bundle")
    if discard:
        print_note("removed" if remove(folder) else f"{folder} has no embeddings to remove")
        return
    if back:
        previous = find_previous(folder)
        encoder = open_encoder(previous.bundle.source, precision, device, threads, engine)
        _tell_swap(folder, previous, _swap(folder, previous, encoder, drop), json, {})
        return
    encoder = open_encoder(bundle or "", precision, device, threads, engine)
    staged, found = _prepare(folder, encoder, queries, IndexPlan(kind, target), batch)
    compared = dataclasses.asdict(found)
    if not json:
        _tell_comparison(found)
    if swap:
        _tell_swap(folder, staged, _swap(folder, staged, encoder, drop), json, compared)
    elif json:
        print_json({"staged": sum(row.rows for row in staged.segments), **compared})
    else:
        print_note("nothing has changed yet; add --swap to switch")


def _prepare(
    folder: Path, encoder: Encoder, queries: Path | None, plan: IndexPlan, batch: int
) -> tuple[BundleEmbeddings, BundleComparison]:
    """Stage, join and index the new embeddings, and compare them with the old ones."""
    from twinlens.index.collection import Collection
    from twinlens.index.storage.records import BundleRecord
    from twinlens.index.upkeep.bundle_comparison import compare_bundles
    from twinlens.index.upkeep.reembedding import consolidate, stage

    record = BundleRecord(encoder.name, encoder.revision, source_of(encoder), encoder.embedding_dim)
    with Collection(folder) as collection, BuildDisplay() as display:
        stage(
            collection,
            record,
            encoder,
            batch=batch,
            tell=lambda done, total: display.stage(f"embedded {done} of {total}"),
        )
        sample = _sample(collection, encoder, queries)
        staged = stage(collection, record, encoder, batch=batch)
        staged = consolidate(collection, staged, sample, plan, display.stage)
        display.stage("comparing")
        before = _open_before(collection)
        after = encoder if encoder.manifest.text else None
        texts = () if sample is None else sample.texts
        return staged, compare_bundles(collection, staged, before, after, texts)


def _sample(collection: Collection, encoder: Encoder, queries: Path | None) -> QuerySample | None:
    """Return the queries of the collection, or of a file, embedded by the new bundle."""
    from twinlens.index.ann.samples import choose_texts
    from twinlens.index.maintenance import read_texts
    from twinlens.index.upkeep.embedding_set import QuerySample

    if not encoder.manifest.text:
        return None
    given = queries.read_text(encoding="utf-8").split("\n") if queries else []
    given = [line.strip() for line in given if line.strip()]
    if queries and not given:
        raise InputError(f"{queries} holds no query", field="queries")
    stored = None if given else read_texts(collection.catalog)
    texts = stored or choose_texts(collection.catalog, encoder.manifest.templates, given)
    rows = encoder.embed_texts(list(texts.texts), input_type="query")
    return QuerySample(texts.texts, texts.source, rows)


def _open_before(collection: Collection) -> Encoder | None:
    """Return the collection's own bundle, or None where it is gone or has no text tower."""
    head = collection.head
    try:
        encoder = open_encoder(head.bundle_source or "builtin")
    except TwinlensError as error:
        print_note(f"texts are not compared: {error.message}")
        return None
    same = encoder.revision == head.bundle_revision
    return encoder if same and encoder.manifest.text else None


def _swap(folder: Path, chosen: BundleEmbeddings, encoder: Encoder, drop: bool) -> SwapReport:
    from twinlens.index.upkeep.embedding_swap import swap_in

    with _open_writer(folder) as writer:
        return swap_in(writer, chosen, encoder, drop=drop)


def _open_writer(folder: Path) -> Writer:
    """Return the writer, once other processes have released the collection."""
    from twinlens.index.writer import Writer

    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return Writer(folder)
        except LockedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _tell_comparison(found: BundleComparison) -> None:
    lines = []
    if found.text_agreement is not None:
        lines.append(
            f"{found.texts} texts: {found.text_agreement:.0%} of the ten best are the same"
        )
    if found.image_agreement is not None:
        lines.append(f"{found.images} images: {found.image_agreement:.0%} are the same")
    if found.found_before is not None and found.found_after is not None:
        lines.append(
            f"{found.captions} captions whose item is among the ten best:"
            f" {found.found_before:.1%} before, {found.found_after:.1%} after"
        )
    for line in lines:
        typer.echo(line)


def _tell_swap(
    folder: Path, chosen: BundleEmbeddings, report: SwapReport, json: bool, compared: dict[str, Any]
) -> None:
    if json:
        print_json({**compared, **dataclasses.asdict(report)})
        return
    print_note(
        f"{folder}: {report.items} items now use {chosen.bundle.name}"
        f" {chosen.bundle.revision[:12]} ({report.late} embedded just now, {report.dropped}"
        " deleted); `index reembed DIR --back` goes back"
    )
