"""A cache of text embeddings, keyed by revision, precision, tokenizer and text.

Bounded in bytes; the least recently used is evicted first. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Row

ValueT = TypeVar("ValueT")
_OVERHEAD = 200  # bytes of the objects around a row


class TextCache:
    """Rows and token counts by (space, text); `space` names all else that a row depends on."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._rows: OrderedDict[tuple[str, str], tuple[Row, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.used_bytes = 0

    def get(self, space: str, text: str) -> tuple[Row, int] | None:
        """Return the row and the number of tokens, or None."""
        key = (space, text)
        with self._lock:
            found = self._rows.get(key)
            if found is not None:
                self._rows.move_to_end(key)
            return found

    def put(self, space: str, text: str, row: Row, tokens: int) -> None:
        """Store a copy of `row`, evicting old rows; a row larger than the cache is not stored."""
        size = _size(text, row)
        if size > self._capacity:
            return
        stored = np.array(row, dtype=np.float32)
        stored.flags.writeable = False
        with self._lock:
            old = self._rows.pop((space, text), None)
            if old is not None:
                self.used_bytes -= _size(text, old[0])
            self._rows[(space, text)] = (stored, tokens)
            self.used_bytes += size
            while self.used_bytes > self._capacity:
                (_, oldest), (dropped, _) = self._rows.popitem(last=False)
                self.used_bytes -= _size(oldest, dropped)


class RecentlyUsed(Generic[ValueT]):
    """A small LRU cache; for the event loop's thread only."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Hashable, ValueT] = OrderedDict()

    def get(self, key: Hashable) -> ValueT | None:
        """Return the value of `key`, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: Hashable, value: ValueT) -> None:
        """Store `value`, evicting the least recently used."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)


def _size(text: str, row: NDArray[np.float32]) -> int:
    return row.nbytes + 2 * len(text) + _OVERHEAD
