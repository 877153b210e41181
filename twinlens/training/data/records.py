"""A record: one image of a source with its label and captions, and the source that reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twinlens.bundle.image.image_source import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Record:
    """One image: `key` names it within the source; the rest is absent where unknown."""

    key: str
    size: int  # bytes, as listed by the source; part of the fingerprint
    label: str | None = None
    captions: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()  # captions that are nearly true of the image, but not quite


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
    """Return a hash of what the data is: keys, sizes, labels, captions, negatives, in order."""
    digest = hashlib.sha256()
    for record in records:
        known = (record.key, record.size, record.label, record.captions)
        # Left out where there are none, so that data of old keep their fingerprint.
        line = repr((*known, record.negatives) if record.negatives else known)
        digest.update(line.encode())
    return digest.hexdigest()


def is_image(name: str) -> bool:
    """Tell whether a file name looks like an image that is not hidden."""
    leaf = name.rsplit("/", 1)[-1].lower()
    return leaf.endswith(IMAGE_SUFFIXES) and not leaf.startswith(".")
