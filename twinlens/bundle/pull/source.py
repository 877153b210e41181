"""A user's name for a ready model: `hf:OWNER/NAME[@REVISION]`, `hf:A+hf:B`, or a folder.

What must stay true: a folder with a `bundle.json` is a bundle and no source, and parsing contacts
no host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from twinlens.bundle.manifest import MANIFEST_NAME
from twinlens.errors import InputError

PREFIX = "hf:"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
_GRAPHS = ("*.onnx", "*/*.onnx")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


@dataclass(frozen=True)
class HubName:
    """A repository on a hub; an empty revision is its main branch."""

    repository: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Source:
    """One place that holds a model, or two with a tower each (the image tower's first)."""

    places: tuple[HubName | Path, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.places))

    @property
    def name(self) -> str:
        """The model's short name."""
        first = self.places[0]
        return first.name if isinstance(first, Path) else first.repository.partition("/")[2]

    def at(self, revision: str) -> Source:
        """Return this source at another revision of its one repository."""
        first = self.places[0]
        if len(self.places) > 1 or isinstance(first, Path) or first.revision:
            raise InputError(
                f"--revision {revision!r} does not fit {str(self)!r}; it is for one repository"
                " without a revision of its own: write hf:OWNER/NAME@REVISION",
                field="revision",
            )
        return Source((replace(first, revision=_check_revision(revision, str(self))),))


def parse_source(text: str | Path) -> Source | None:
    """Return the source that `text` names; None if it is something else, such as a bundle."""
    if isinstance(text, str) and text.startswith(PREFIX):
        parts = text.split(f"+{PREFIX}")
        if len(parts) > 2:
            raise InputError(
                f"source {text!r} names {len(parts)} repositories; a model has at most two towers:"
                " hf:IMAGE_OWNER/NAME+hf:TEXT_OWNER/NAME",
                field="source",
            )
        return Source(tuple(_parse_hub_name(part, text) for part in parts))
    folder = Path(text).expanduser()
    return Source((folder,)) if is_model_folder(folder) else None


def is_model_folder(folder: Path) -> bool:
    """Return whether a folder holds another project's model and not a bundle."""
    if not folder.is_dir() or (folder / MANIFEST_NAME).exists():
        return False
    if (folder / "golden.npz").exists():  # a bundle without its manifest
        return False
    if any(next(folder.glob(pattern), None) for pattern in _GRAPHS):
        return True
    has_weights = any(next(folder.glob(pattern), None) for pattern in _WEIGHTS)
    return has_weights and (folder / "config.json").is_file()


def _parse_hub_name(part: str, whole: str) -> HubName:
    name, sign, revision = part.removeprefix(PREFIX).partition("@")
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise InputError(
            f"source {whole!r} is not {PREFIX}OWNER/NAME[@REVISION]; an example:"
            f" {PREFIX}Xenova/clip-vit-base-patch32",
            field="source",
        )
    return HubName(name, _check_revision(revision, whole) if sign else "")


def _check_revision(revision: str, whole: str) -> str:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise InputError(
            f"revision {revision!r} of {whole!r} is not a branch, tag or commit of a repository",
            field="revision",
        )
    return revision
