"""`twinlens index migrate`: copy a collection between folders and vector stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.index.building import add_index
from twinlens.cli.index.options import KindOption, Target
from twinlens.cli.index.progress import BuildDisplay
from twinlens.cli.options import Json, open_encoder
from twinlens.cli.terminal import print_json, print_note

if TYPE_CHECKING:
    from twinlens.index.collection import Collection
    from twinlens.index.storage.records import Head
    from twinlens.index.stores.store_collection import StoreCollection
    from twinlens.index.vectors.arrays import Floats
    from twinlens.index.writer import Writer

INDEXED_ROWS = 2048  # a store with more items gets an index


def migrate(
    source: Annotated[str, typer.Argument(help="A collection: a folder or a store's address.")],
    out: Annotated[
        str, typer.Argument(help="Destination: a folder, postgresql://... or milvus://...")
    ],
    kind: KindOption = "auto",
    target: Target = 0.95,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Bundle; default: the collection's own.")
    ] = None,
    json: Json = False,
) -> None:
    """Copy a collection to a store or back; run it again to copy what is new.

    [bold]Example:[/] twinlens index migrate photos.index 'postgresql://localhost/db?collection=photos'
    """
    from twinlens.index.stores.migration import copy_items
    from twinlens.index.stores.opening import open_collection

    with open_collection(source) as collection, BuildDisplay() as display:
        writer = _open_target(out, collection.head)
        try:
            show = _Shown(display)
            written, passed = copy_items(collection, writer, show)
            _index(collection, writer, kind, target, bundle, display)
            recall = _read_recall(writer.collection)
            count = len(writer.collection)
        finally:
            writer.close()
    told: dict[str, Any] = {"count": count, "written": written, "unchanged": passed}
    if json:
        print_json(told | {"recall": recall})
        return
    print_note(f"{count} items there ({written} written, {passed} unchanged)")
    shown = [f"{name} {value:.4f}" for name, value in recall.items() if value is not None]
    print_note(f"recall@10: {', '.join(shown) or 'not measured'}")


class _Shown:
    """Prints how many items were copied, at each tenth of them."""

    def __init__(self, display: BuildDisplay) -> None:
        self._display, self._tenth = display, 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        if tenth > self._tenth:
            self._tenth = tenth
            self._display.stage(f"copied {done} of {total} items")


def _open_target(out: str, head: Head) -> Writer:
    """Open the target for writing; it is created where it is missing."""
    from twinlens.index.storage.database import CATALOG_NAME
    from twinlens.index.stores.opening import open_store, open_writer, parse_address
    from twinlens.index.writer import create_collection

    address = parse_address(out)
    if address is not None:
        open_store(address, head).close()
    elif not (Path(out) / CATALOG_NAME).exists():
        create_collection(
            out,
            dim=head.dim,
            bundle_name=head.bundle_name,
            bundle_revision=head.bundle_revision,
            bundle_source=head.bundle_source,
        )
    return open_writer(out)


def _index(
    source: Collection,
    writer: Writer,
    kind: str,
    target: float,
    bundle: str | None,
    display: BuildDisplay,
) -> None:
    from twinlens.index.maintenance import IndexPlan, needs_sample, optimise
    from twinlens.index.stores.store_collection import StoreCollection
    from twinlens.index.stores.store_tuning import tune_store

    plan = IndexPlan(kind, target)
    if isinstance(writer.collection, StoreCollection):
        if kind != "exact" and (kind != "auto" or len(writer.collection) > INDEXED_ROWS):
            texts = _find_texts(source, writer.collection, bundle, display)
            tune_store(writer.collection, texts, target, display.stage)
    elif needs_sample(writer, plan):
        encoder = open_encoder(bundle or source.head.bundle_source or "builtin")
        add_index(writer, encoder, None, plan, display)
    else:
        optimise(writer, plan, display.stage)


def _find_texts(
    source: Collection, copied: StoreCollection, bundle: str | None, display: BuildDisplay
) -> Floats | None:
    """Return text queries: those the source was tuned on, else captions and words embedded now."""
    from twinlens.index.ann.samples import choose_texts
    from twinlens.index.maintenance import read_sample

    stored = read_sample(source.catalog, "text")
    if stored is not None:
        return stored
    place = bundle or source.head.bundle_source
    if not place:
        return None
    encoder = open_encoder(place)
    source.require_bundle(encoder.revision, encoder.name)
    if not encoder.manifest.text:
        return None
    sample = choose_texts(copied.catalog, encoder.manifest.templates, count=200)
    display.stage(f"embedding {len(sample.texts)} text queries ({sample.source})")
    return encoder.embed_texts(list(sample.texts), input_type="query")


def _read_recall(collection: Collection) -> dict[str, float | None]:
    from twinlens.index.stats import measured_recall

    collection.refresh()
    return measured_recall(collection.snapshot())
