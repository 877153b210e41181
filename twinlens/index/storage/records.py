"""The rows of the catalog as plain values, and their checksums."""

from __future__ import annotations

import datetime
import json
import zlib
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import orjson

from twinlens.errors import InputError
from twinlens.index.storage.durable import FileRecord
from twinlens.index.vectors.arrays import Floats, Rids

FORMAT = 2  # 2: columns of a segment in `columns.bin`
READABLE = (1, FORMAT)


@dataclass(frozen=True)
class Head:
    """Properties of the whole collection."""

    dim: int
    bundle_name: str
    bundle_revision: str
    bundle_source: str  # where to find that bundle: "builtin" or a path
    created: str
    epoch: int = 0  # one more with every commit
    generation: int = 0  # one more when the set of segments or their indexes changes
    next_rid: int = 1
    last_seq: int = 0  # number of the last tombstone written; numbers are never reused
    format: int = FORMAT

    @property
    def bundle(self) -> BundleRecord:
        """The bundle that made the embeddings."""
        return BundleRecord(self.bundle_name, self.bundle_revision, self.bundle_source, self.dim)


@dataclass(frozen=True)
class BundleRecord:
    """The bundle that made embeddings, where to find it, and their dimension."""

    name: str
    revision: str
    source: str
    dim: int


@dataclass(frozen=True)
class IndexRow:
    """The FAISS index of a segment: derived data that can be rebuilt at any time."""

    name: str
    kind: str
    files: dict[str, FileRecord]
    settings: dict[str, Any]
    tuning: dict[str, Any]


@dataclass(frozen=True)
class SegmentRow:
    """An immutable folder of embeddings, in the order of their rids."""

    name: str
    rows: int
    files: dict[str, FileRecord]
    index: IndexRow | None = None


@dataclass(frozen=True)
class Item:
    """One entry of the collection, without its embedding."""

    rid: int
    id: str
    version: str
    metadata: dict[str, Any]


class ShownItem(NamedTuple):
    """What a hit shows of an item."""

    id: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Changes:
    """All changes after a known point, read in one transaction."""

    head: Head
    segments: tuple[SegmentRow, ...]  # empty unless requested
    rids: Rids  # new delta rows, ascending
    ids: list[str]
    embeddings: Floats
    metadata: list[dict[str, Any]]
    tombstones: Rids  # rids deleted since


def checksum(*fields: int | str | bytes) -> int:
    """Return the CRC-32 of a row's fields."""
    if isinstance(fields[-1], bytes):  # an embedding or a note, hashed without copying
        return zlib.crc32(fields[-1], checksum(*fields[:-1]))
    return zlib.crc32("\0".join(map(str, fields)).encode())


def item_checksum(rid: int, id: str, version: str, metadata: str) -> int:
    """Return `checksum` of an item's row in a third of the time: each hit of a search needs it."""
    return zlib.crc32(f"{rid}\0{id}\0{version}\0{metadata}".encode())


def dump_metadata(metadata: dict[str, Any]) -> str:
    """Return metadata as JSON text; raise if JSON cannot represent it."""
    try:
        return orjson.dumps(metadata, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InputError(f"metadata cannot be written as JSON: {error}", field="metadata") from None


def now() -> str:
    """Return the time in ISO 8601, to the second, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def head_from(raw: dict[str, Any]) -> Head:
    """Return the head; unknown fields are ignored."""
    return Head(**_known(Head, raw))


def _known(kind: type[Head | IndexRow], raw: dict[str, Any]) -> dict[str, Any]:
    return {field.name: raw[field.name] for field in fields(kind) if field.name in raw}


def segment_body(row: SegmentRow) -> str:
    """Return the catalog's record of a segment, as JSON."""

    def files(records: dict[str, FileRecord]) -> dict[str, list[Any]]:
        return {name: [record.bytes, record.sha256] for name, record in records.items()}

    body: dict[str, Any] = {"rows": row.rows, "files": files(row.files), "index": None}
    if row.index:
        body["index"] = {**row.index.__dict__, "files": files(row.index.files)}
    return json.dumps(body)


def segment_from(name: str, raw: dict[str, Any]) -> SegmentRow:
    """Return the segment that `segment_body` serialised."""

    def files(records: dict[str, list[Any]]) -> dict[str, FileRecord]:
        return {key: FileRecord(*value) for key, value in records.items()}

    index = raw["index"]
    return SegmentRow(
        name,
        int(raw["rows"]),
        files(raw["files"]),
        IndexRow(**{**_known(IndexRow, index), "files": files(index["files"])}) if index else None,
    )
