"""Builds the caption index of a collection, or completes it: a batch a commit, killed anywhere.

The first search by words builds it where this process may write; a collection that another one
writes to is built by that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twinlens.errors import CollectionError, LockedError, ReadOnlyError
from twinlens.index.storage.captions import (
    CAPTION_FIELDS,
    LABEL_FIELDS,
    CaptionState,
    match_expression,
)
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.lock import WriterLock

DEFAULT_FIELDS = CAPTION_FIELDS + LABEL_FIELDS


def build_captions(
    catalog: Catalog, fields: Sequence[str] | None = None, *, rebuild: bool = False
) -> None:
    """Index the captions that are missing; with `rebuild` or other fields, all of them anew."""
    state = CaptionState.read(catalog.raw_head())
    if state is None or rebuild or (fields is not None and tuple(fields) != state.fields):
        held = state.fields if state else DEFAULT_FIELDS
        with catalog.writing() as transaction:
            transaction.captions.start(fields or held)
    while not is_complete(catalog):
        with catalog.writing() as transaction:
            transaction.catch_up_captions()


def is_complete(catalog: Catalog) -> bool:
    """Return whether every item's caption is indexed."""
    raw_head = catalog.raw_head()
    state = CaptionState.read(raw_head)
    return state is not None and state.next_rid >= int(raw_head["next_rid"])


def require_captions(folder: Path, catalog: Catalog) -> None:
    """Build the caption index of a collection unless it is complete."""
    if is_complete(catalog):
        return
    try:
        with WriterLock(folder):
            writable = Catalog(folder, write=True)
            try:
                build_captions(writable)
            finally:
                writable.close()
    except (LockedError, ReadOnlyError) as error:
        if is_complete(catalog):  # another process has just built it
            return
        raise type(error)(
            f"the captions of {folder} are not indexed, and {error.message}. A search by words"
            " builds the index once; `twinlens index captions DIR` or Writer.index_captions() does"
            " it before",
            field="hybrid",
        ) from None


def match_captions(catalog: Catalog, text: str, limit: int) -> list[tuple[int, float]]:
    """Return the rids and BM25 scores of items with any of the words, best first."""
    expression = match_expression(text)
    if not expression:
        return []
    try:
        rows = catalog.select(
            "SELECT captions.rowid, -bm25(captions) AS score FROM captions"
            " JOIN items ON items.rid = captions.rowid WHERE captions MATCH ?"
            " ORDER BY score DESC, captions.rowid LIMIT ?",
            (expression, limit),
        )
    except CollectionError as error:
        raise CollectionError(
            f"{error.message}; if the caption index is damaged, `twinlens index captions DIR"
            " --rebuild` builds it again"
        ) from error
    return [(int(rid), float(score)) for rid, score in rows]
