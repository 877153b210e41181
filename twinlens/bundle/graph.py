"""Finds the external weight files of an ONNX file before a runtime opens it.

It reads only the few relevant protobuf fields, so that serving needs no onnx package. What must
stay true: it walks the whole model, including subgraphs and functions, and treats malformed data as
a damaged bundle.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from twinlens.errors import BundleError

# Field numbers of onnx.proto3: for each message, the fields that lead to a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_LENGTH_DELIMITED = 2


def list_external_files(path: Path) -> set[str]:
    """Return the locations of all external data of the ONNX file at `path`, unresolved."""
    if path.stat().st_size == 0:
        raise BundleError(f"{path} is empty; it should be an ONNX graph")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(_find_locations(memoryview(data)))
    except (IndexError, ValueError, UnicodeDecodeError, RecursionError):
        raise BundleError(f"{path} is not an ONNX graph: it does not parse") from None


def _find_locations(data: memoryview) -> list[str]:
    """Return every `location` in a model, and release the view so that the map can close."""
    found: list[str] = []
    stack = [("model", 0, len(data))]
    try:
        while stack:
            kind, start, end = stack.pop()
            for number, begin, stop in _iterate_fields(data, start, end):
                child = _CHILDREN[kind].get(number)
                if child == "entry":
                    found += _read_location(data, begin, stop)
                elif child is not None:
                    stack.append((child, begin, stop))
    finally:
        data.release()
    return found


def _read_location(data: memoryview, start: int, end: int) -> list[str]:
    """Return the value of a key-value entry whose key is `location`, as a list of at most one."""
    entry = {number: bytes(data[a:b]) for number, a, b in _iterate_fields(data, start, end)}
    return [entry.get(2, b"").decode()] if entry.get(1) == b"location" else []


def _iterate_fields(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, begin, stop) of each length-delimited field; skip the others."""
    at = start
    while at < end:
        tag, at = _read_varint(data, at)
        wire = tag & 7
        if wire == _LENGTH_DELIMITED:
            length, at = _read_varint(data, at)
            if at + length > end:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, at, at + length
            at += length
        elif wire == 0:
            _, at = _read_varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return (value, position after it)."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
