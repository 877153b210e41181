"""A record: one image of a source with its label and captions, and the source that reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twinlens.bundle.image.image_source import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Record:
    """One image: `key` names it within the source; unknown fields are absent."""

    key: str
    size: int  # bytes, as the source lists them; part of the fingerprint
    label: str | None = None
    captions: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()  # captions that are almost true of the image


class DataSource(Protocol):
    """Records in a stable order, and their bytes. Reading is safe from several threads."""

    @property
    def records(self) -> Sequence[Record]:
        """All records."""
        ...

    def read(self, index: int) -> bytes:
        """Return the encoded image of record `index`."""
        ...


def fingerprint(records: Sequence[Record]) -> str:
    """Return a hash of the data: keys, sizes, labels, captions and negatives, in order."""
    digest = hashlib.sha256()
    for record in records:
        known = (record.key, record.size, record.label, record.captions)
        # Absent negatives are left out, so that older data keep their fingerprint.
        line = repr((*known, record.negatives) if record.negatives else known)
        digest.update(line.encode())
    return digest.hexdigest()


def is_image(name: str) -> bool:
    """Tell whether a file name is that of an image and not hidden."""
    leaf = name.rsplit("/", 1)[-1].lower()
    return leaf.endswith(IMAGE_SUFFIXES) and not leaf.startswith(".")
