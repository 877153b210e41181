"""Lists the items of a collection, page by page.

The order is that in which items were written, so it does not change while others come and go. An
item that is written again moves to the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.filters import Filter
from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.records import Item
from twinlens.index.vectors.arrays import Rids

PAGE = 1000


def list_items(
    collection: Collection,
    *,
    filter: str | Filter | None = None,
    limit: int | None = None,
    offset: int = 0,
    after: int = 0,
) -> Iterator[Item]:
    """Yield items in a stable order; `after` is the `rid` of the last item of the page before.

    `after` costs the same at any depth; `offset` counts matches, after `after`.
    """
    if offset < 0 or (limit is not None and limit < 1):
        raise InputError(
            f"limit is {limit}, offset {offset}; a page has at least 1 item, and starts at 0 or"
            " more",
            field="offset" if offset < 0 else "limit",
        )
    if filter is None and not offset:
        yield from collection.catalog.items(after, limit)
        return
    tree = parse_filter(filter) if isinstance(filter, str) else filter
    rids = matching_rids(collection.snapshot(), tree)
    rids = rids[np.searchsorted(rids, after, side="right") :][offset:][:limit]
    for start in range(0, len(rids), PAGE):
        page = rids[start : start + PAGE].tolist()
        items = collection.catalog.by_rid(page)
        yield from (items[rid] for rid in page if rid in items)


def matching_rids(snapshot: Snapshot, tree: Filter | None) -> Rids:
    """Return the rids of the live rows that satisfy a filter, ascending."""
    found = [rids[chosen] for rids, chosen in snapshot.select(tree)]
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)
