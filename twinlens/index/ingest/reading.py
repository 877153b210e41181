"""How an entry of a corpus becomes pixels to embed: read, described, compared with what is indexed.

Every engine that builds a collection runs these steps, in threads of one process or on a cluster.
What must stay true: any error of an entry becomes its failure, and costs no other entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from twinlens.errors import MissingDependencyError, TwinlensError
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.ingest.intake import Decoded
from twinlens.index.ingest.versions import (
    add_stamp,
    content_version,
    has_bytes,
    has_content,
    has_same_content,
    has_stamp,
    stamp_file,
)
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.records import dump_metadata
from twinlens.index.vectors.arrays import Floats
from twinlens.index.writer import check_id

Describe = Callable[[bytes], Mapping[str, str | float]]


class ImageEncoder(Protocol):
    """The two image stages of an encoder that the indexer uses."""

    def preprocess(self, image: bytes, /) -> npt.NDArray[np.uint8]:
        """Return pixels (height, width, 3)."""

    def encode_pixels(self, pixels: npt.NDArray[np.uint8], /) -> Floats:
        """Return embeddings (n, d)."""


@dataclass(frozen=True)
class ReadingPlan:
    """How entries become items: by which encoder, and what of a file becomes metadata."""

    encoder: ImageEncoder
    describe: Describe
    options: str  # part of a file's stamp
    checksum: bool


def say_nothing(raw: bytes) -> dict[str, str | float]:
    """Return nothing of a photograph: for builds without EXIF."""
    return {}


def decode_group(
    entries: list[CorpusEntry], reading: ReadingPlan, catalog: Catalog
) -> list[Decoded]:
    """Read and decode entries, of which the catalog knows those indexed before."""
    known = find_versions(entries, catalog)
    return [decode_entry(entry, known.get(entry.id, ""), reading) for entry in entries]


def find_versions(entries: list[CorpusEntry], catalog: Catalog) -> dict[str, str]:
    """Return the versions of entries that were indexed before, by id."""
    return catalog.versions([one.id for one in entries if is_text(one.id)])


def is_text(name: str) -> bool:
    """Return whether a name can be looked up: that of a file may be arbitrary bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def decode_entry(entry: CorpusEntry, known: str, reading: ReadingPlan) -> Decoded:
    """Read and decode one entry; any error becomes its failure."""
    if entry.version:
        return _decode_frame(entry, known, reading.encoder)
    stamp = stamp_file(entry, reading.options)
    if has_stamp(known, stamp) and not reading.checksum:
        return Decoded(entry, known, is_unchanged=True)
    try:
        check_id(entry.id)
        raw = entry.read()
        own = {key: one for key, one in reading.describe(raw).items() if key not in entry.metadata}
        entry = replace(entry, metadata={**entry.metadata, **own})  # the corpus's own count first
        dump_metadata(dict(entry.metadata))
        content = content_version(raw, entry.metadata)
    except Exception as error:
        return Decoded(entry, failure=_reason(error), is_unread=True)
    version = add_stamp(content, stamp)
    if has_content(known, content):
        return Decoded(entry, version, is_unchanged=True, is_restamped=version != known)
    if has_bytes(known, content):
        return Decoded(entry, version)  # only the metadata is new
    return _decode_pixels(entry, version, raw, reading.encoder)


def _decode_frame(entry: CorpusEntry, known: str, encoder: ImageEncoder) -> Decoded:
    """Decode an entry whose version is known before its bytes."""
    if has_same_content(known, entry.version):
        restamped = known != entry.version
        return Decoded(entry, entry.version, is_unchanged=True, is_restamped=restamped)
    if has_bytes(known, entry.version):
        return Decoded(entry, entry.version)
    return _decode_pixels(entry, entry.version, entry.read(), encoder)


def _decode_pixels(entry: CorpusEntry, version: str, raw: bytes, encoder: ImageEncoder) -> Decoded:
    try:
        return Decoded(entry, version, encoder.preprocess(raw))
    except MissingDependencyError as error:  # says nothing of the image
        return Decoded(entry, failure=error.message, is_unread=True)
    except Exception as error:  # a damaged file may raise any error; the build must continue
        return Decoded(entry, failure=_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, TwinlensError):
        return error.message
    return f"{type(error).__name__}: {error}"
