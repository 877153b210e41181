"""Files that several processes share: a lock to wait for, and atomic writes.

What must stay true: the kernel releases the lock when its holder ends in any way.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twinlens.disk import open_to_write, try_lock, wait_for_lock


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `path` for the duration of the context; `on_wait` is called before a wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_to_write(path)
    try:
        if not try_lock(descriptor):
            on_wait()
            wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
