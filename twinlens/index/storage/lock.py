"""One writer at a time: a lock that the kernel releases when its process ends."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from twinlens.errors import LockedError, ReadOnlyError

LOCK_NAME = "writer.lock"


class WriterLock:
    """Holds a collection's `writer.lock`; a second attempt fails at once and names the holder."""

    def __init__(self, folder: Path) -> None:
        path, flags = folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor: int | None = os.open(path, flags, 0o644)
        except OSError as error:
            raise ReadOnlyError(
                f"{folder} cannot be written to: {error.strerror}; copy the collection to a folder"
                " that can, or make this one writable",
                field="folder",
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            self.release()
            raise LockedError(
                f"{folder} is being written to by {holder or 'another process'};"
                " a collection has one writer at a time: wait for it, or stop it"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

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
