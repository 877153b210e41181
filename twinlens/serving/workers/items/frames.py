"""The messages between processes: frames of bytes with a kind, and records of items in them.

A frame is its length, its kind and its payload. What must stay true: whoever reads a stream sees
whole frames, in the order in which they were written, however the stream cuts them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import orjson

from twinlens import errors
from twinlens.bundle.arrays import Row, Rows
from twinlens.errors import TwinlensError
from twinlens.serving import failures
from twinlens.serving.failures import EncodeError

_HEAD = struct.Struct("<IB")
_ITEM = struct.Struct("<IBBHIIQd")
_BATCH = struct.Struct("<ddIII")
IMAGE, TEXT = 0, 1


class FrameKind(IntEnum):
    """What a frame holds."""

    MESSAGE = 0  # JSON, between the keeper and the others
    WELCOME = 1  # the encoder serves the model that was named
    REFUSED = 2  # it does not, and never will
    ITEMS = 3
    ROWS = 4
    FAILURE = 5  # of one item
    DROPPED = 6  # items that nobody waited for any more


_KINDS = tuple(FrameKind)  # indexed faster than an enumeration is called


class ItemRecord(NamedTuple):
    """One item on its way to an encoder; the pixels of an image lie in its place."""

    place: int
    tower: int
    priority: int
    deaths: int  # of encoder processes that were running it
    bucket: int
    tokens: Sequence[int]
    request: int
    deadline: float


class Ran(NamedTuple):
    """When a batch ran, and how much it held, of all processes together."""

    started: float
    ended: float
    items: int
    units: int  # images, or tokens with their padding


class AnsweredRows(NamedTuple):
    """Rows of one batch for one process."""

    ran: Ran
    places: list[int]
    rows: Rows


def write_frame(kind: FrameKind, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return _HEAD.pack(len(payload), kind) + payload


class FrameReader:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> Iterator[tuple[FrameKind, bytes]]:
        """Yield the frames that are complete now."""
        data = self._kept + data if self._kept else data
        start, end = 0, len(data)
        while end - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(data, start)
            stop = start + _HEAD.size + length
            if stop > end:
                break
            yield _KINDS[kind], data[start + _HEAD.size : stop]
            start = stop
        self._kept = data[start:]


def write_record(record: ItemRecord) -> bytes:
    """Return the bytes of an item."""
    head = _ITEM.pack(
        record.place,
        record.tower,
        record.priority,
        record.deaths,
        record.bucket,
        len(record.tokens),
        record.request,
        record.deadline,
    )
    if not record.tokens:
        return head
    return head + np.asarray(record.tokens, np.int64).tobytes()


def read_records(payload: bytes) -> Iterator[ItemRecord]:
    """Yield the items of a frame."""
    at = 0
    while at < len(payload):
        place, tower, priority, deaths, bucket, count, request, deadline = _ITEM.unpack_from(
            payload, at
        )
        at += _ITEM.size
        tokens: list[int] = []
        if count:
            tokens = np.frombuffer(payload, np.int64, count, at).tolist()
            at += 8 * count
        yield ItemRecord(place, tower, priority, deaths, bucket, tokens, request, deadline)


def write_rows(ran: Ran, places: Sequence[int], rows: Sequence[Row]) -> bytes:
    """Return the frame of rows of one batch."""
    head = _BATCH.pack(*ran, len(places))
    numbers = np.asarray(places, np.uint32).tobytes()
    return write_frame(FrameKind.ROWS, b"".join((head, numbers, *(row.tobytes() for row in rows))))


def read_rows(payload: bytes, width: int) -> AnsweredRows:
    """Return the rows of a frame."""
    *ran, count = _BATCH.unpack_from(payload)
    places = np.frombuffer(payload, np.uint32, count, _BATCH.size).tolist()
    rows = np.frombuffer(payload, np.float32, count * width, _BATCH.size + 4 * count)
    return AnsweredRows(Ran(*ran), places, rows.reshape(count, width))


def write_dropped(places: Sequence[int]) -> bytes:
    """Return the frame of items that were dropped."""
    return write_frame(FrameKind.DROPPED, np.asarray(places, np.uint32).tobytes())


def read_dropped(payload: bytes) -> list[int]:
    """Return the places of items that were dropped."""
    places: list[int] = np.frombuffer(payload, np.uint32).tolist()
    return places


def write_failure(place: int, error: Exception) -> bytes:
    """Return the frame of one item's error."""
    return write_frame(FrameKind.FAILURE, orjson.dumps([place, describe_error(error)]))


def read_failure(payload: bytes) -> tuple[int, Exception]:
    """Return the place of an item, and its error."""
    place, described = orjson.loads(payload)
    return place, build_error(described)


def describe_error(error: Exception) -> dict[str, str | float | None]:
    """Return what another process needs to raise the same error; internals stay here."""
    if not isinstance(error, TwinlensError):
        return {"kind": "EncodeError", "message": "the encoder failed on this item"}
    kind = type(error).__name__
    more = {name: getattr(error, name, None) for name in ("field", "code", "retry_after")}
    return {"kind": kind, "message": error.message, **more}


def build_error(described: dict[str, str | float | None]) -> TwinlensError:
    """Return the error that another process described."""
    kind = str(described["kind"])
    found: type[TwinlensError] = getattr(failures, kind, getattr(errors, kind, EncodeError))
    error = found.__new__(found)  # constructors need arguments that were not sent
    TwinlensError.__init__(error, str(described["message"]))
    for name in ("field", "code", "retry_after"):
        if described.get(name) is not None:
            setattr(error, name, described[name])
    return error
