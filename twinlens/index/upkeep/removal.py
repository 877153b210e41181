"""Deletes the items that satisfy a filter, at most as many as a limit allows.

The matches are found and deleted under one lock, so no newer version of an item is deleted that
does not match.
"""

from __future__ import annotations

from twinlens.errors import InputError
from twinlens.index.ingest.deletions import DEFAULT_SHARE, most_deleted
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.filters import Filter
from twinlens.index.upkeep.listing import list_items
from twinlens.index.writer import Writer


def remove_matching(writer: Writer, filter: str | Filter, max_delete: str | None = None) -> int:
    """Delete all items that satisfy the filter, durably on return; return how many."""
    tree = parse_filter(filter) if isinstance(filter, str) else filter
    with writer.catalog.blocking_commits():
        ids = [item.id for item in list_items(writer.collection, filter=tree)]
        check_removal(len(ids), len(writer.collection), max_delete)
        return writer.delete(ids) if ids else 0


def check_removal(gone: int, count: int, max_delete: str | None) -> None:
    """Refuse to delete more than the limit allows: "20%", "500" or None for the default."""
    most = most_deleted(max_delete, count)
    if gone > most:
        raise InputError(
            f"{gone} of {count} items match; at most {most} may be deleted at once (--max-delete"
            f" {max_delete or f'{DEFAULT_SHARE:.0%}'}), so none was. Check them first; to delete"
            f" them, pass --max-delete {gone}",
            field="max_delete",
        )
