"""`columns.bin`: the columns of a segment as one file, to be read from a map.

Arrays come first, each at a multiple of 64 bytes, then their directory as JSON, then its length in
eight bytes. Segments of format 1 have `columns.npz`, which is read into memory.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from twinlens.index.storage.columns import Column, Columns
from twinlens.index.storage.words import Words
from twinlens.index.vectors.arrays import load_arrays

COLUMNS_NAME = "columns.bin"
OLD_NAME = "columns.npz"  # of format 1
ALIGNMENT = 64
BLOCK = 1 << 20  # values written at a time
_LENGTH_BYTES = 8


def write_columns(columns: Columns, folder: Path) -> None:
    """Write the columns into a segment's folder."""
    directory: list[dict[str, Any]] = []
    with (folder / COLUMNS_NAME).open("wb") as handle:
        for (field, kind), column in sorted(columns.columns.items()):
            arrays = {"rows": column.rows, "values": column.values}
            if column.words is not None:
                arrays |= {"offsets": column.words.offsets, "text": column.words.text}
            places = {
                name: _append(handle, array) for name, array in arrays.items() if array is not None
            }
            directory.append({"field": field, "kind": kind, **places})
        body = json.dumps({"count": columns.count, "columns": directory}).encode()
        handle.write(body + len(body).to_bytes(_LENGTH_BYTES, "little"))


def map_columns(raw: npt.NDArray[np.uint8]) -> Columns:
    """Return the columns in the bytes of a file that were checked, without copying them."""
    length = int.from_bytes(raw[-_LENGTH_BYTES:].tobytes(), "little")
    body = raw[len(raw) - _LENGTH_BYTES - length : len(raw) - _LENGTH_BYTES].tobytes()
    directory = json.loads(body)

    def array(place: list[Any]) -> npt.NDArray[Any]:
        start, dtype, count = place
        size = np.dtype(dtype).itemsize * count
        return np.asarray(raw[start : start + size].view(dtype))

    def column(entry: dict[str, Any]) -> Column:
        words = Words(array(entry["offsets"]), array(entry["text"])) if "text" in entry else None
        rows = array(entry["rows"]) if "rows" in entry else None
        return Column(rows, array(entry["values"]), words)

    entries = directory["columns"]
    return Columns(
        int(directory["count"]), {(one["field"], one["kind"]): column(one) for one in entries}
    )


def load_old_columns(raw: npt.NDArray[np.uint8]) -> Columns:
    """Read the columns of a segment of format 1."""
    arrays = load_arrays(io.BytesIO(raw.tobytes()))
    head = json.loads(bytes(arrays["head"]))
    columns = {}
    for number, (field, kind) in enumerate(head["fields"]):
        words = None
        if kind == "string":
            words = Words.encode(json.loads(bytes(arrays[f"words{number}"])))
        columns[field, kind] = Column(arrays[f"rows{number}"], arrays[f"values{number}"], words)
    return Columns(int(head["count"]), columns)


def _append(handle: BinaryIO, array: npt.NDArray[Any]) -> list[Any]:
    """Write an array at the next multiple of 64; return its place, type and length."""
    handle.write(bytes(-handle.tell() % ALIGNMENT))
    start = handle.tell()
    kept = array.astype(array.dtype.newbyteorder("<"), copy=False)
    for low in range(0, len(kept), BLOCK):
        handle.write(np.ascontiguousarray(kept[low : low + BLOCK]).data)
    return [start, kept.dtype.str, len(kept)]
