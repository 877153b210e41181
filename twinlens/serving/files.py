"""Atomic, durable file writes, and the lock by which one server owns a folder.

What must stay true: after a power cut a file is complete or absent; a full disk is reported as such
and changes nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinlens.disk import open_to_write, read_holder, sync, try_lock, write_holder
from twinlens.errors import LockedError
from twinlens.serving.failures import DiskFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_OWNER = "server.lock"


def write_file(path: Path, content: bytes) -> None:
    """Write `path` through a temporary file; on return it is on disk."""
    with report_full_disk():
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with report_full_disk():
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync(path.parent)


def remove_file(path: Path) -> None:
    """Remove `path`; on return the removal is on disk."""
    path.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def report_full_disk() -> Iterator[None]:
    """Raise `DiskFullError` for any error that a full disk caused."""
    try:
        yield
    except Exception as error:
        if _comes_of_full_disk(error):
            raise DiskFullError(
                "the server's disk is full, and nothing was changed; make room on it (or delete "
                "a classifier or a collection) and try again"
            ) from error
        raise


@contextmanager
def own_folder(folder: Path | None) -> Iterator[None]:
    """Lock `folder` for this server while the block runs.

    The kernel releases the lock when the process ends, however it ends.
    """
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = open_to_write(folder / _OWNER)
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    """Lock an open file and write into it who holds it."""
    if not try_lock(descriptor):
        holder = read_holder(descriptor)
        raise LockedError(
            f"--data {folder} is in use by {holder or 'another server'}; one server owns a data "
            "folder: stop that one, or give this one a folder of its own",
            field="data",
        )
    write_holder(descriptor)


def _comes_of_full_disk(error: BaseException | None) -> bool:
    """Return whether a full disk caused an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
