"""Files here or in an object store, behind one small interface: facts, a stream, a range of bytes.

Addresses with `://` go through fsspec and its packages for each store (`s3fs`, `gcsfs`, ...), which
handle credentials. What must stay true: every way of reading returns the bytes of the store.
"""

from __future__ import annotations

import functools
import glob
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from twinlens.errors import InputError, MissingDependencyError


class Files(Protocol):
    """Where shards are stored."""

    def find(self, pattern: str) -> list[str]:
        """Return the addresses that a glob names, sorted."""
        ...

    def facts(self, address: str) -> list[Any] | None:
        """Return what changes when the file changes; None if there is no file."""
        ...

    def stream(self, address: str) -> BinaryIO:
        """Open the file to be read from its start."""
        ...

    def read(self, address: str, start: int, size: int) -> bytes:
        """Return some of its bytes. Safe from several threads."""
        ...

    def expect(self, address: str, start: int, size: int) -> None:
        """Announce that these bytes will be read soon."""
        ...


class LocalFiles:
    """Files of this machine."""

    def find(self, pattern: str) -> list[str]:
        """Return the paths that a glob names, sorted."""
        return sorted(glob.glob(pattern))  # noqa: PTH207 - absolute globs too

    def facts(self, address: str) -> list[Any] | None:
        """Return size and time of change."""
        path = Path(address)
        if not path.is_file():
            return None
        found = path.stat()
        return [found.st_size, found.st_mtime_ns]

    def stream(self, address: str) -> BinaryIO:
        """Open the file."""
        return Path(address).open("rb")

    def read(self, address: str, start: int, size: int) -> bytes:
        """Return some bytes; each call opens the file, so that threads share no position."""
        with Path(address).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def expect(self, address: str, start: int, size: int) -> None:
        """Let the system read ahead in one sequential read."""
        if not hasattr(os, "posix_fadvise"):
            return
        with Path(address).open("rb") as file:
            os.posix_fadvise(file.fileno(), start, size, os.POSIX_FADV_WILLNEED)


class StoreFiles:
    """Files of an object store, through fsspec."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        try:
            import fsspec

            self._store: Any = fsspec.filesystem(scheme)
        except (ImportError, ValueError) as error:
            raise MissingDependencyError(
                f"{scheme}:// needs fsspec and its package for {scheme} ({error});"
                " pip install 'twinlens[stores]' brings those of S3"
            ) from None

    def find(self, pattern: str) -> list[str]:
        """Return the addresses that a glob names, sorted."""
        return sorted(f"{self._scheme}://{name}" for name in self._store.glob(pattern))

    def facts(self, address: str) -> list[Any] | None:
        """Return size and entity tag."""
        try:
            found = self._store.info(address)
        except FileNotFoundError:
            return None
        return [found.get("size"), str(found.get("ETag") or found.get("mtime") or "")]

    def stream(self, address: str) -> BinaryIO:
        """Open the file; it is read in large pieces, one after another."""
        return cast("BinaryIO", self._store.open(address, "rb", block_size=2**23))

    def read(self, address: str, start: int, size: int) -> bytes:
        """Return some bytes, by one request."""
        try:
            return bytes(self._store.cat_file(address, start=start, end=start + size))
        except OSError as error:
            raise InputError(f"{address} cannot be read: {error}") from None

    def expect(self, address: str, start: int, size: int) -> None:
        """Do nothing: each image is one request, and several batches are requested ahead."""


@functools.cache
def open_files(where: str) -> Files:
    """Return the file system that an address belongs to."""
    scheme, separator, _ = where.partition("://")
    return StoreFiles(scheme) if separator else LocalFiles()
