"""Boxes of the ISO base media file format: which picture format a file is, and its items.

What must stay true: positions outside the file, and endlessly nested boxes, end the reading; only
the data of items are copied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
    | {b"mif1", b"mif2", b"msf1", b"miaf"}  # for any codec: read as HEIC unless the brand is AVIF
)
_MOST_BOXES = 100_000


@dataclass(frozen=True)
class IsoBox:
    """A box: its kind, and the position of its body."""

    kind: bytes
    body: int
    end: int


def find_brand(data: bytes) -> str | None:
    """Return "AVIF" or "HEIC" by the brands in the first box; None for any other file."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 1024)
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, end - 3, 4))]
    if _AVIF.intersection(brands):
        return "AVIF"
    return "HEIC" if _HEIC.intersection(brands) else None


def walk(data: bytes, start: int, end: int) -> Iterator[IsoBox]:
    """Yield the boxes between two positions; a box that extends beyond is cut to `end`."""
    place = start
    for _ in range(_MOST_BOXES):
        if place + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if size == 1 and place + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, place + 8)
            head = 16
        stop = end if size == 0 else min(place + max(size, head), end)
        yield IsoBox(kind, place + head, stop)
        place = stop


def find_box(data: bytes, path: tuple[bytes, ...], start: int, end: int) -> IsoBox | None:
    """Return the first box at a path of kinds. The body of `meta` starts after its version."""
    for box in walk(data, start, end):
        if box.kind != path[0]:
            continue
        body = box.body + 4 if box.kind == b"meta" else box.body
        return (
            IsoBox(box.kind, body, box.end)
            if not path[1:]
            else find_box(data, path[1:], body, box.end)
        )
    return None


def read_item_kinds(data: bytes, meta: IsoBox) -> dict[int, bytes]:
    """Return the kind of each item that `iinf` lists: `av01`, `grid`, `Exif`."""
    kinds: dict[int, bytes] = {}
    table = find_box(data, (b"iinf",), meta.body, meta.end)
    if table is None:
        return kinds
    first = table.body + (6 if data[table.body] == 0 else 8)
    for box in walk(data, first, table.end):
        version = data[box.body]
        wide = 4 if version == 3 else 2
        if box.kind == b"infe" and version >= 2:
            item = int.from_bytes(data[box.body + 4 : box.body + 4 + wide], "big")
            kinds[item] = data[box.body + 6 + wide : box.body + 10 + wide]
    return kinds


class _Reader:
    """Big-endian integers of given widths, read in sequence."""

    def __init__(self, data: bytes, place: int, end: int) -> None:
        self._data, self._place, self._end = data, place, end

    def take(self, width: int) -> int:
        place, self._place = self._place, self._place + width
        if self._place > self._end:
            raise ValueError("a table of items is cut short")
        return int.from_bytes(self._data[place : self._place], "big")


def read_item_data(data: bytes, meta: IsoBox) -> dict[int, bytes]:
    """Return the bytes of each item in `iloc`; raise `ValueError` if the box is damaged."""
    table = find_box(data, (b"iloc",), meta.body, meta.end)
    held = find_box(data, (b"idat",), meta.body, meta.end)
    if table is None:
        return {}
    reader = _Reader(data, table.body, table.end)
    version, _ = reader.take(1), reader.take(3)
    sizes, more = reader.take(1), reader.take(1)
    widths = sizes >> 4, sizes & 15, more >> 4, more & 15 if version else 0
    wide = 4 if version == 2 else 2
    found: dict[int, bytes] = {}
    total = 0
    for _ in range(reader.take(wide)):
        item = reader.take(wide)
        method = reader.take(2) & 15 if version else 0
        reader.take(2)
        parts = _read_extents(reader, widths)
        base = held.body if method == 1 and held else 0
        found[item] = b"".join(data[base + at : base + at + size] for at, size in parts)
        total += len(found[item])
        if total > len(data):  # items must not share bytes
            raise ValueError("items that overlap")
    return found


def _read_extents(reader: _Reader, widths: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Return (position, size) of an item's parts."""
    offset, length, base, index = widths
    start = reader.take(base)
    parts = []
    for _ in range(reader.take(2)):
        reader.take(index)
        at = start + reader.take(offset)
        size = reader.take(length)
        parts.append((at, size or (1 << 62)))
    return parts
