"""What the hits of a search show of their items: from segments, or else from the catalog.

A segment tells the items that its rows had when they were written, which are those of the snapshot
that was searched, also where one has been deleted since.
"""

from __future__ import annotations

from collections.abc import Sequence

from twinlens.index.snapshot import Snapshot
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.records import ShownItem


def show_items(snapshot: Snapshot, catalog: Catalog, rids: Sequence[int]) -> dict[int, ShownItem]:
    """Return the items of these rids; those that only the catalog has may be deleted by now."""
    found = snapshot.read_items(rids)
    if len(found) < len(rids) and (left := [rid for rid in rids if rid not in found]):
        for rid, item in catalog.by_rid(left).items():
            found[rid] = ShownItem(item.id, item.metadata)
    return found
