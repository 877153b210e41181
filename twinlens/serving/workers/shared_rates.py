"""How many requests each API key may still send, counted by all processes together.

What must stay true: a process that ends while it counts holds up no other; the kernel drops its
lock.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from twinlens.serving.clock import Clock
from twinlens.serving.keys import RequestRate
from twinlens.serving.settings import ServerSettings


class RateTable:
    """The requests that each key has left, in memory that the processes share."""

    def __init__(self, settings: ServerSettings) -> None:
        self._per_minute = settings.limits.key_requests_per_minute
        self._digests = [key.digest for key in settings.keys]
        self._lock = os.memfd_create("twinlens-rates", os.MFD_CLOEXEC)
        memory = mmap.mmap(-1, max(1, 16 * len(self._digests)))
        self._cells = memoryview(memory)[: 16 * len(self._digests)].cast("d")
        for i in range(len(self._digests)):
            self._cells[2 * i], self._cells[2 * i + 1] = self._per_minute, time.monotonic()

    def build_rates(self, clock: Clock) -> dict[bytes, RequestRate]:
        """Return the rates by the digests of their keys."""
        return {
            digest: SharedRate(self._per_minute, clock, self, i)
            for i, digest in enumerate(self._digests)
        }

    def read(self, index: int) -> tuple[float, float]:
        """Return how many a key had left, and when."""
        return self._cells[2 * index], self._cells[2 * index + 1]

    def write(self, index: int, left: float, since: float) -> None:
        """Note how many a key has left now."""
        self._cells[2 * index], self._cells[2 * index + 1] = left, since

    @contextmanager
    def hold(self, index: int) -> Iterator[None]:
        """Lock the count of a key."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, index)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, index)


class SharedRate(RequestRate):
    """The requests of one key, in all processes."""

    def __init__(self, per_minute: int, clock: Clock, table: RateTable, index: int) -> None:
        super().__init__(per_minute, clock)
        self._table = table
        self._index = index

    def count(self) -> None:
        """Count one request; raise if the key has none left."""
        if not self._most:
            return
        with self._table.hold(self._index):
            self._left, self._since = self._table.read(self._index)
            try:
                super().count()
            finally:
                self._table.write(self._index, self._left, self._since)
