"""Where the image of an item lies, if the indexer wrote that: clients of a server write metadata.

What must stay true: a server opens no path that one of its clients sent.
"""

from __future__ import annotations

from twinlens.index.storage.records import Item

PATH_FIELD = "path"
BUILT_MARK = "-"  # in the version of an item that the offline indexer wrote


def find_file(item: Item) -> str | None:
    """Return the path that the indexer wrote for an item, for `read_path`, or None."""
    path = item.metadata.get(PATH_FIELD)
    return path if isinstance(path, str) and BUILT_MARK in item.version else None
