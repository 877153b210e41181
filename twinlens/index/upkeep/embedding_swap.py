"""Puts another bundle's embeddings in the place of those that answer, in one commit.

Items, ids and rids stay; head, segments, unsealed rows and tuning queries change together, so that
a reader sees one bundle or the other. The replaced embeddings stay beside the collection until the
next swap: going back is the same swap with them.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.index.maintenance import read_sample, read_texts, write_sample
from twinlens.index.stats import DOMAIN_EXTENSION
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.durable import fresh_name
from twinlens.index.storage.records import Item
from twinlens.index.upkeep.embedding_set import (
    NEXT_NAME,
    PREVIOUS_NAME,
    BundleEmbeddings,
    QuerySample,
    read_set,
)
from twinlens.index.upkeep.reembedding import EmbeddedBatch, ItemEncoder, embed_items, list_rids
from twinlens.index.vectors.arrays import unit_rows
from twinlens.index.writer import Writer

PREVIOUS_NOTE = "previous embeddings"  # the folder to go back to
SHOWN = 5


@dataclass(frozen=True)
class SwapReport:
    """What was swapped in: items, those embedded at the last moment, those left out."""

    items: int
    late: int
    dropped: int
    epoch: int


def swap_in(
    writer: Writer, chosen: BundleEmbeddings, encoder: ItemEncoder, *, drop: bool = False
) -> SwapReport:
    """Swap a set in, durably on return. Items that it lacks are embedded now.

    Where an image cannot be read, the swap is refused, or with `drop` the item is deleted.
    """
    with writer.maintenance_lock, writer.catalog.blocking_commits():
        writer.seal()
        head = writer.catalog.head()
        if head.bundle_revision == chosen.bundle.revision:
            raise ConflictError(
                f"{writer.folder} holds the embeddings of {chosen.bundle.name!r} already",
                field="bundle",
            )
        chosen.verify()
        live, staged = list_rids(writer.catalog), chosen.rids()
        late = _embed_missing(writer.catalog, np.setdiff1d(live, staged).tolist(), encoder, drop)
        gone = np.setdiff1d(staged, live)
        previous = _keep_current(writer)
        chosen.link_into(writer.folder)
        items = writer.catalog.by_rid(late.unread)
        with writer.catalog.writing(new_generation=True) as transaction:
            transaction.delete_items([item.id for item in items.values()])
            rows = unit_rows(late.rows, chosen.bundle.dim) if len(late.rids) else late.rows
            transaction.replace_embeddings(
                chosen.bundle, chosen.segments, gone.tolist(), late.rids, rows
            )
            if (sample := chosen.read_queries()) is not None:
                write_sample(transaction, "text", sample.rows, sample.source, sample.texts)
            transaction.write_note(PREVIOUS_NOTE, previous.folder.name.encode())
            transaction.extend(DOMAIN_EXTENSION, None)  # it was of the other bundle
        writer.collection.refresh()
        writer.sweep()
        _remove_others(writer.folder, previous.folder.name)
    return SwapReport(
        len(writer.collection), len(late.rids), len(items), writer.catalog.head().epoch
    )


def find_staged(place: Path) -> BundleEmbeddings:
    """Return the set that is staged for a collection."""
    found = read_set(place / NEXT_NAME)
    if found is None:
        raise NotFoundError(
            f"{place} has no embeddings of another bundle; make them with"
            " `twinlens index reembed DIR --bundle BUNDLE`",
            field="bundle",
        )
    return found


def find_previous(place: Path) -> BundleEmbeddings:
    """Return the set that the last swap replaced."""
    catalog = Catalog(place)
    try:
        name, revision = catalog.note(PREVIOUS_NOTE), catalog.head().bundle_revision
    finally:
        catalog.close()
    found = read_set(place / name.decode()) if name else None
    if found is None or found.bundle.revision == revision:
        raise NotFoundError(
            f"{place} keeps no embeddings of an earlier bundle, so there is nothing to go back to",
            field="bundle",
        )
    return found


def _embed_missing(
    catalog: Catalog, rids: list[int], encoder: ItemEncoder, drop: bool
) -> EmbeddedBatch:
    """Embed the items that a set lacks; refuse where that cannot be, unless they may go."""
    found = catalog.by_rid(rids)
    items = [found[rid] for rid in rids if rid in found]
    with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool:
        late = embed_items(items, encoder, pool, batch=32)
    if late.unread and not drop:
        _refuse([found[rid] for rid in late.unread])
    return late


def _refuse(unread: list[Item]) -> None:
    shown = ", ".join(repr(item.id[:60]) for item in unread[:SHOWN])
    more = f" and {len(unread) - SHOWN} more" if len(unread) > SHOWN else ""
    raise InputError(
        f"the images of {len(unread)} items cannot be read again: {shown}{more}. Items written"
        " through the API or an import name no image file. Bring the files back, delete the items,"
        " or swap with --drop, which deletes them",
        field="drop",
    )


def _keep_current(writer: Writer) -> BundleEmbeddings:
    """Make a set of the embeddings that answer now; it counts once the swap is committed."""
    folder = writer.folder / fresh_name(PREVIOUS_NAME)
    folder.mkdir()
    rows = tuple(writer.catalog.segments())
    current = BundleEmbeddings(writer.folder, writer.catalog.head().bundle, rows)
    current.link_into(folder)
    kept = replace(current, folder=folder)
    texts, sample = read_texts(writer.catalog), read_sample(writer.catalog, "text")
    if sample is not None:
        held = ((), "") if texts is None else (texts.texts, texts.source)
        kept.write_queries(QuerySample(*held, sample))
    kept.save()
    return kept


def _remove_others(place: Path, kept: str) -> None:
    """Remove the set that was swapped in, and earlier sets to go back to."""
    for path in place.iterdir():
        is_set = path.name == NEXT_NAME or path.name.startswith(f"{PREVIOUS_NAME}-")
        if is_set and path.name != kept:
            shutil.rmtree(path)
