"""A repository of a ready model: what it holds, and its files on demand; on a hub or in a folder.

What must stay true: listing a repository transfers no file's content, and only what is asked for is
fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from twinlens.errors import BundleError


class Repository(Protocol):
    """The files of one model at one revision."""

    @property
    def source(self) -> str:
        """Where it comes from, as the user may write it: `hf:OWNER/NAME` or a folder's path."""

    @property
    def revision(self) -> str:
        """The commit that the files belong to; empty for a folder."""

    @property
    def files(self) -> Mapping[str, int]:
        """Each file's path inside the repository, with its size in bytes."""

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return a folder that holds `paths` under their own names."""


class FolderRepository:
    """A repository that lies on this disk."""

    revision = ""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BundleError(f"{str(folder)!r} is not a folder", code="not_found")
        self._folder = folder
        self.source = str(folder)
        self.files: Mapping[str, int] = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return the folder itself, after checking that it holds `paths`."""
        for path in paths:
            if path not in self.files:
                raise BundleError(f"{self.source} holds no {path!r}", code="not_found")
        return self._folder
