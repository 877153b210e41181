"""The FAISS index of a segment, opened when first needed and only if its bytes are the published.

It is derived: when it is damaged or gone, its segment is searched exactly and it is rebuilt.
"""

from __future__ import annotations

from pathlib import Path

from twinlens.index.arrays import Floats, Mask, Rows
from twinlens.index.records import IndexRow
from twinlens.index.segment import Segment


class Derived:
    """The index of one segment."""

    def __init__(self, root: Path, row: IndexRow) -> None:
        self.row = row
        self._folder = root / row.name
        self.damage: str | None = None

    def search(
        self, segment: Segment, queries: Floats, k: int, allowed: Mask | None, *, filtered: bool
    ) -> tuple[Floats, Rows] | None:
        """Return the k best rows, or None where only an exact search can answer."""
        return None
