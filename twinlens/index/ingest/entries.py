"""One item of a corpus, and what stands in a corpus for items that cannot be read.

An entry that fails costs itself alone. Where the failure hides other items, such as the rest of a
cut tar shard, `covers` says which ids may be among them, so that none of those is taken for gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twinlens.errors import InputError


@dataclass(frozen=True)
class CorpusEntry:
    """One item to index; `read` returns the bytes of its image.

    `file` is the path of a file that holds this image alone, `mark` what the listing of a remote
    one tells of its content, `version` that of the item where it is known without reading. If the
    image cannot be read, ids that start with `covers` may still exist: a shard's name, or "" for
    any id. None: only this one.
    """

    id: str
    read: Callable[[], bytes]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    covers: str | None = None
    file: str | None = None
    version: str = ""
    mark: str = ""


def unreadable(name: str, reason: str, covers: str | None = None) -> CorpusEntry:
    """Return an entry that fails for a reason known already."""

    def read() -> bytes:
        raise InputError(reason)

    return CorpusEntry(name, read, covers=covers)
