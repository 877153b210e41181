"""`items.bin`: the id and metadata of each row of a segment, as the hits of a search show them.

A copy of what the catalog holds: ten rows of SQLite take longer to read than to find. What must
stay true: the record of a rid never changes, since an item that is written again gets another rid;
and none is used before its checksum, over its rid and its bytes, or the hash of the whole file was
compared.

First come the records, as JSON, then a table: where each starts, its length, its checksum.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from twinlens.errors import CollectionError
from twinlens.index.storage.records import ShownItem
from twinlens.index.vectors.arrays import Rids, RowNumbers

ITEMS_NAME = "items.bin"
ALIGNMENT = 8  # bytes, of the table
ENTRY = np.dtype([("start", "<i8"), ("length", "<u4"), ("sum", "<u4")])
LOW_BITS = 0xFFFFFFFF  # of a rid: what a checksum begins with

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ItemRecords:
    """The records of some rows in their order: bytes in pieces, and entries of the table.

    Entries do not tell yet where a record starts.
    """

    pieces: Sequence[bytes | memoryview]
    entries: npt.NDArray[np.void]


def encode_items(rids: Rids, ids: Sequence[str], bodies: Sequence[str]) -> ItemRecords:
    """Return the records of items; `bodies` are their metadata as JSON."""
    pieces = [
        b"[%b,%b]" % (orjson.dumps(name), body.encode())
        for name, body in zip(ids, bodies, strict=True)
    ]
    entries = np.zeros(len(pieces), ENTRY)
    entries["length"] = [len(piece) for piece in pieces]
    entries["sum"] = [
        zlib.crc32(piece, rid & LOW_BITS) for piece, rid in zip(pieces, rids.tolist(), strict=True)
    ]
    return ItemRecords(pieces, entries)


def write_items(blocks: Iterable[ItemRecords], folder: Path) -> int:
    """Write the records of all rows of a segment; return how many there are."""
    tables = [np.empty(0, ENTRY)]
    with (folder / ITEMS_NAME).open("wb") as handle:
        for block in blocks:
            handle.writelines(block.pieces)
            tables.append(block.entries)
        handle.write(b"\0" * (-handle.tell() % ALIGNMENT))
        table = np.concatenate(tables)
        ends = np.cumsum(table["length"], dtype=np.int64)
        table["start"] = ends - table["length"]
        handle.write(table.tobytes())
    return len(table)


class ItemFile:
    """The mapped file of a segment of `count` rows."""

    def __init__(self, path: Path, raw: Bytes, count: int) -> None:
        self._path = path
        split = len(raw) - ENTRY.itemsize * count
        if split < 0:
            raise CollectionError(f"{path} is too short for {count} rows: it is damaged")
        self.bytes = raw[:split]
        self._text = memoryview(raw)[:split]  # type: ignore[arg-type]
        self.table: npt.NDArray[np.void] = np.asarray(raw[split:].view(ENTRY))

    def read(
        self, places: Sequence[int], rids: Sequence[int], *, is_sound: bool = False
    ) -> list[ShownItem]:
        """Return the items in these rows, whose rids were checked.

        `is_sound`: so was the whole file, by its hash, so that no sum has to be compared again.
        """
        records = []
        for rid, (start, length, crc) in zip(rids, self.table.take(places).tolist(), strict=True):
            record = self._text[start : start + length]
            if not is_sound and zlib.crc32(record, rid & LOW_BITS) != crc:
                raise CollectionError(
                    f"{self._path} is damaged: the record of row {rid} does not match its checksum;"
                    " restore the collection from a copy, or build it again in a new folder"
                )
            records.append(record)
        return list(starmap(ShownItem, orjson.loads(b"[%b]" % b",".join(records))))

    def records(self, places: RowNumbers) -> ItemRecords:
        """Return the records of rows, to be copied; the file was checked."""
        bounds = [(self._start(first), self._start(last + 1)) for first, last in _runs(places)]
        return ItemRecords([self._text[low:high] for low, high in bounds], self.table[places])

    def _start(self, place: int) -> int:
        """Return where a record starts, or of the row behind the last one where that ends."""
        entry = self.table[max(0, place - 1)].item()
        return int(entry[0] + (entry[1] if place else 0))


def _runs(places: RowNumbers) -> Iterator[tuple[int, int]]:
    """Yield the first and last of rows that follow each other."""
    cuts = np.flatnonzero(np.diff(places) != 1) + 1
    for low, high in itertools.pairwise([0, *cuts.tolist(), len(places)]):
        if low < high:
            yield int(places[low]), int(places[high - 1])
