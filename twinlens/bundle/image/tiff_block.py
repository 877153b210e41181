"""Directories of a TIFF block, the form of EXIF and of TIFF files.

What must stay true: a damaged block yields its readable entries, never an exception or a warning
(Pillow's own parser warns); nothing outside the block is read, and no entry is read twice.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MOST_ENTRIES = 4096
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BIG_SIZES = _SIZES | {16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_FRACTIONS = {5: "I", 10: "i"}


@dataclass(frozen=True)
class Entry:
    """One entry of a directory: `size` bytes at `place`, and its own bytes at `start`."""

    kind: int
    count: int
    place: int
    size: int
    start: int


@dataclass(frozen=True)
class TiffBlock:
    """A block of EXIF or a TIFF file; `is_big` is BigTIFF, whose offsets have 8 bytes."""

    data: bytes
    order: str  # "<" or ">"
    first: int  # where the first directory begins
    is_big: bool = False

    @property
    def entry_size(self) -> int:
        """The bytes of one entry of a directory."""
        return 20 if self.is_big else 12

    def directory(self, start: int) -> dict[int, Entry]:
        """Return the entries of a directory by tag; those beyond the end of the data are left out.

        Of several entries with one tag, the first counts.
        """
        found: dict[int, Entry] = {}
        head = "Q" if self.is_big else "H"
        if start > len(self.data):
            return found
        try:
            (count,) = struct.unpack_from(self.order + head, self.data, start)
            for number in range(min(count, _MOST_ENTRIES)):
                place = start + struct.calcsize(head) + self.entry_size * number
                tag, entry = self._entry(place)
                if entry is not None:
                    found.setdefault(tag, entry)
        except struct.error:  # the block is truncated
            pass
        return found

    def integers(self, entry: Entry | None, most: int = 64) -> tuple[int, ...]:
        """Return the integers of an entry, at most `most`; () if it holds none."""
        if entry is None or entry.kind not in _INTEGERS:
            return ()
        code = f"{self.order}{min(entry.count, most)}{_INTEGERS[entry.kind]}"
        return self._unpack(code, entry.place)

    def fractions(self, entry: Entry | None) -> tuple[float, ...]:
        """Return the fractions of an entry; () if one of them is divided by zero."""
        if entry is None or entry.kind not in _FRACTIONS:
            return ()
        code = f"{self.order}{2 * min(entry.count, 8)}{_FRACTIONS[entry.kind]}"
        parts = self._unpack(code, entry.place)
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        return () if any(not below for _, below in pairs) else tuple(a / b for a, b in pairs)

    def text(self, entry: Entry | None, most: int = 256) -> str:
        """Return the text of an entry up to its first NUL, without control characters."""
        if entry is None or entry.kind not in (2, 7):
            return ""
        raw = self.data[entry.place : entry.place + min(entry.size, most)].partition(b"\0")[0]
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        return "".join(one for one in text if one.isprintable()).strip()

    def _entry(self, place: int) -> tuple[int, Entry | None]:
        """Return tag and entry at `place`; None if the kind is unknown or the value is outside."""
        tag, kind, count = struct.unpack_from(
            self.order + ("HHQ" if self.is_big else "HHI"), self.data, place
        )
        inline, code = (8, "Q") if self.is_big else (4, "I")
        held = place + self.entry_size - inline
        size = count * (_BIG_SIZES if self.is_big else _SIZES).get(kind, 0)
        (value,) = struct.unpack_from(self.order + code, self.data, held)
        where = held if size <= inline else value
        fits = size > 0 and where + size <= len(self.data)
        return tag, Entry(kind, count, where, size, place) if fits else None

    def _unpack(self, code: str, place: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(code, self.data, place)
        except struct.error:
            return ()


def open_block(data: bytes) -> TiffBlock | None:
    """Return the block, with or without EXIF's own six-byte prefix; None if it is none."""
    tiff = data.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (version,) = struct.unpack_from(order + "H", tiff, 2)
        is_big = version == 43
        code, place = ("Q", 8) if is_big else ("I", 4)
        (first,) = struct.unpack_from(order + code, tiff, place)
    except struct.error:
        return None
    return TiffBlock(tiff, order, first, is_big)
