"""The names of the files below a folder, in a tenth of the memory that a list of strings takes.

Names of one folder are kept as one block of bytes; iterating yields them in the order of adding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

BLOCK = 4096  # names


class FileList:
    """Relative paths, added one by one."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, bytes]] = []  # the folder, and names divided by zero bytes
        self._folder = ""
        self._names: list[str] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        self._close()
        for folder, names in self._blocks:
            for name in os.fsdecode(names).split("\0"):
                yield folder + name

    def add(self, path: str) -> None:
        """Add the path of a file."""
        folder, slash, name = path.rpartition("/")
        if folder + slash != self._folder or len(self._names) >= BLOCK:
            self._close()
            self._folder = folder + slash
        self._names.append(name)
        self._count += 1

    def _close(self) -> None:
        if self._names:
            self._blocks.append((self._folder, os.fsencode("\0".join(self._names))))
            self._names = []
