"""One writer at a time: a lock that the kernel releases when its process ends."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from twinlens.disk import open_to_write, read_holder, try_lock, write_holder
from twinlens.errors import LockedError, ReadOnlyError

LOCK_NAME = "writer.lock"


class WriterLock:
    """Holds a collection's `writer.lock`; a second attempt fails at once and names the holder."""

    def __init__(self, folder: Path) -> None:
        try:
            self._descriptor: int | None = open_to_write(folder / LOCK_NAME)
        except OSError as error:
            raise ReadOnlyError(
                f"{folder} cannot be written to: {error.strerror}; copy the collection to a folder"
                " that can, or make this one writable",
                field="folder",
            ) from None
        if not try_lock(self._descriptor):
            holder = read_holder(self._descriptor)
            self.release()
            raise LockedError(
                f"{folder} is being written to by {holder or 'another process'};"
                " a collection has one writer at a time: wait for it, or stop it"
            )
        write_holder(self._descriptor)

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
