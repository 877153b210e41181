"""Changes the metadata of items; their embeddings stay as they are.

A rebuild keeps such changes until the image, or what the corpus says of it, changes. Where the file
of an item lies is not its metadata to change: only paths that the indexer wrote are ever opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinlens.errors import InputError
from twinlens.index.ingest.item_files import PATH_FIELD
from twinlens.index.storage.records import Item
from twinlens.index.writer import SEAL_ROWS, Writer


def update_metadata(
    writer: Writer, changes: Mapping[str, Mapping[str, Any]], *, replace: bool = False
) -> list[str]:
    """Merge new metadata into items by id, durably on return; return the ids that are unknown.

    A value of None removes its field. With `replace`, all other fields are removed.
    """
    for id, change in changes.items():
        if PATH_FIELD in change:
            raise InputError(
                f"metadata of {id[:80]!r}: {PATH_FIELD!r} names the file that was indexed, and"
                " cannot be changed; leave it out",
                field="metadata",
            )
    with writer.catalog.blocking_commits():
        items = writer.catalog.by_id(list(changes))
        known = [id for id in changes if id in items]
        if known:
            metadata = [_merge(items[id], changes[id], replace) for id in known]
            writer.rewrite([items[id] for id in known], metadata)
    if writer.catalog.delta_count() >= SEAL_ROWS:
        writer.seal()
    return [id for id in changes if id not in items]


def _merge(item: Item, change: Mapping[str, Any], replace: bool) -> dict[str, Any]:
    """Return the metadata after a change; a field within an object is replaced with its object."""
    kept = item.metadata
    if replace:
        kept = {name: kept[name] for name in (PATH_FIELD,) if name in kept}
    return {name: value for name, value in {**kept, **change}.items() if value is not None}
