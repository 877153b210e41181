"""The one writer of a served collection: opened by the first write, closed a while after the last.

What must stay true: one thread writes at a time, but other writes run beside maintenance, which
does its own locking; the writer is not closed while either runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twinlens.index.stores.opening import open_writer
from twinlens.index.writer import Writer

WRITER_IDLE_SECONDS = 2.0
_PAUSE = 0.02

ResultT = TypeVar("ResultT")


class SharedWriter:
    """Runs writes of any thread; `refresh` is called after each."""

    def __init__(self, source: Path | str, refresh: Callable[[], object]) -> None:
        self._source = source  # a folder, or the address of a store
        self._refresh = refresh
        self._writing = threading.Lock()
        self._writer: Writer | None = None
        self._maintaining = 0  # maintenance runs in progress
        self._idle: threading.Timer | None = None

    @property
    def is_open(self) -> bool:
        """Whether this process holds the collection's lock."""
        return self._writer is not None

    def write(self, action: Callable[[Writer], ResultT]) -> ResultT:
        """Run `action` as the writer."""
        with self._writing:
            writer = self._open()
            try:
                return action(writer)
            finally:
                self._close_later()

    def maintain(self, action: Callable[[Writer], ResultT]) -> ResultT:
        """Run a long `action` as the writer; other writes continue meanwhile."""
        with self._writing:
            writer = self._open()
            self._maintaining += 1
        try:
            return action(writer)
        finally:
            with self._writing:
                self._maintaining -= 1
                self._close_later()

    def close(self) -> None:
        """Close the writer once maintenance has ended."""
        while self._maintaining:
            time.sleep(_PAUSE)
        with self._writing:
            self._drop()

    def _open(self) -> Writer:
        if self._idle is not None:
            self._idle.cancel()
        if self._writer is None:
            self._writer = open_writer(self._source)
        return self._writer

    def _close_later(self) -> None:
        """Close the writer after a while, unless another write comes."""
        self._refresh()
        self._idle = threading.Timer(WRITER_IDLE_SECONDS, self._close_idle)
        self._idle.daemon = True
        self._idle.start()

    def _close_idle(self) -> None:
        with self._writing:
            if not self._maintaining:
                self._drop()

    def _drop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
