"""A repository of a ready model: its listing, and files on demand; on a hub or in a folder.

What must stay true: listing a repository transfers no file's content, and only requested files are
fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from twinlens.errors import BundleError

CARD_NAME = "README.md"


class Repository(Protocol):
    """The files of one model at one revision."""

    @property
    def source(self) -> str:
        """Its origin as the user may write it: `hf:OWNER/NAME` or a folder's path."""

    @property
    def revision(self) -> str:
        """The commit of the files; empty for a folder."""

    @property
    def licence(self) -> str:
        """The licence that the model card states; empty if it states none."""

    @property
    def card(self) -> str:
        """The address of the model card; empty for a folder."""

    @property
    def files(self) -> Mapping[str, int]:
        """Each file's path inside the repository, with its size in bytes."""

    def fetch(self, paths: Iterable[str]) -> Path:
        """Return a folder that holds `paths` under their own names."""


class FolderRepository:
    """A repository on this disk."""

    revision = ""
    card = ""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BundleError(f"{str(folder)!r} is not a folder", code="not_found")
        self._folder = folder
        self.source = str(folder)
        self.licence = read_licence(folder / CARD_NAME)
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


def read_licence(card: Path) -> str:
    """Return the licence in the front matter of a model card; empty if there is none."""
    if not card.is_file():
        return ""
    head, _, rest = card.read_text(encoding="utf-8", errors="replace").partition("---")
    front = "" if head.strip() else rest.partition("\n---")[0]
    found = re.search(r"^license:[ \t]*(\S.*)$", front, re.MULTILINE)
    return found[1].strip().strip("\"'") if found else ""
