"""The version of an item: what it was made from, so that a later build sees what has changed.

It is `BYTES-METADATA`, two hashes, and for an item in a file of its own `-STAMP`: a hash of the
file's size and time of change, of the corpus's metadata, and of how the file's own are read. A file
of the same stamp is not read again. A file that changed less than two seconds before it was read
gets no stamp: it could change again within the same tick of its file system's clock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any

import orjson

from twinlens.index.ingest.entries import CorpusEntry

READING = 1  # raised when more of a file becomes metadata, so that files are read again
SETTLED_SECONDS = 2.0
_CONTENT_LENGTH = 24 + 1 + 24


def content_version(raw: bytes, metadata: Mapping[str, Any]) -> str:
    """Return the hash of an item's bytes, then that of its metadata."""
    return f"{_digest(raw)}-{_digest(_describe(metadata))}"


def frame_version(digest: str, metadata: Mapping[str, Any]) -> str:
    """Return the version of a frame of a video whose bytes have this digest."""
    return f"{digest}-{_digest(_describe(metadata))}"


def stamp_file(entry: CorpusEntry, options: str) -> str:
    """Return the stamp of an entry's file, or "" if it has none; `options` say how it is read."""
    if entry.mark:
        seen = f"{READING} {options} {entry.mark} ".encode()
        return hashlib.sha256(seen + _describe(entry.metadata)).hexdigest()[:16]
    if entry.file is None:
        return ""
    try:
        state = os.stat(entry.file)  # noqa: PTH116 - a million times: a path costs as much again
    except OSError:
        return ""
    if time.time() - state.st_mtime < SETTLED_SECONDS:
        return ""
    seen = f"{READING} {options} {state.st_size} {state.st_mtime_ns} ".encode()
    return hashlib.sha256(seen + _describe(entry.metadata)).hexdigest()[:16]


def add_stamp(version: str, stamp: str) -> str:
    """Return a version with a stamp, if there is one."""
    return f"{version}-{stamp}" if stamp else version


def has_stamp(version: str, stamp: str) -> bool:
    """Return whether an item was made from a file of this stamp."""
    return bool(stamp) and version[_CONTENT_LENGTH:] == f"-{stamp}"


def has_content(version: str, content: str) -> bool:
    """Return whether an item was made from these bytes and metadata."""
    return version[:_CONTENT_LENGTH] == content


def has_same_content(version: str, other: str) -> bool:
    """Return whether two versions are of the same bytes and metadata."""
    return bool(version) and version[:_CONTENT_LENGTH] == other[:_CONTENT_LENGTH]


def has_bytes(version: str, content: str) -> bool:
    """Return whether an item was made from these bytes, with any metadata."""
    return bool(version) and version.split("-")[0] == content.split("-")[0]


def _describe(metadata: Mapping[str, Any]) -> bytes:
    return orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS, default=str)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:24]
