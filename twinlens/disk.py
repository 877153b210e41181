"""Files as POSIX and Windows give them: locks that end with their holder, and flushes.

Windows has no `fcntl`, no `os.pread` and no flush of a folder, and translates line ends unless told
not to. What must stay true: a lock is released when its process ends, however it ends.
"""

from __future__ import annotations

import os
import socket
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_FCNTL: Any = import_module("fcntl") if find_spec("fcntl") else None
_LOCKED_BYTE = 1 << 30  # Windows locks bytes against readers too; this one is behind every end
_WAIT_SECONDS = 0.05


def open_to_write(path: Path) -> int:
    """Open a file to read and write, made if it is missing; return its descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)


def open_to_read(path: str | Path) -> int:
    """Open a file to read; return its descriptor."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Return up to `size` bytes from `offset`; threads must not share a descriptor."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Write bytes at `offset`; threads must not share a descriptor."""
    if hasattr(os, "pwrite"):
        os.pwrite(descriptor, content, offset)
        return
    os.lseek(descriptor, offset, os.SEEK_SET)
    os.write(descriptor, content)


def sync(path: Path) -> None:
    """Flush a file or a folder entry to disk; Windows cannot flush a folder."""
    is_posix = hasattr(os, "O_DIRECTORY")
    if not is_posix and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if is_posix else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file; return False if another process has locked it."""
    try:
        if _FCNTL is not None:
            _FCNTL.flock(descriptor, _FCNTL.LOCK_EX | _FCNTL.LOCK_NB)
        else:
            _lock_byte(descriptor)
    except (BlockingIOError, PermissionError):
        return False
    return True


def wait_for_lock(descriptor: int) -> None:
    """Lock an open file; wait until no other process has locked it."""
    if _FCNTL is not None:
        _FCNTL.flock(descriptor, _FCNTL.LOCK_EX)
        return
    while not try_lock(descriptor):
        time.sleep(_WAIT_SECONDS)


def write_holder(descriptor: int) -> None:
    """Write into a locked file which process holds it."""
    os.ftruncate(descriptor, 0)
    write_at(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def read_holder(descriptor: int) -> str:
    """Return what the holder of a locked file wrote into it; empty if nothing yet."""
    return read_at(descriptor, 200, 0).decode(errors="replace").strip()


def _lock_byte(descriptor: int) -> None:
    msvcrt = import_module("msvcrt")
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
