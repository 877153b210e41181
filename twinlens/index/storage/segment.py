"""An immutable folder of embeddings: float16 rows in the order of their rids, and their metadata.

All files are mapped when the segment is opened, so that a compaction may unlink them while it is
read. No byte is used in an answer before it was checked once in this process: by the sha256 of its
file, or where only few embeddings are read, of their blocks.
"""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from twinlens.errors import CollectionError
from twinlens.index.query.filters import Filter
from twinlens.index.storage.block_sums import SUMS_NAME, CheckedBlocks, write_sums
from twinlens.index.storage.column_file import (
    COLUMNS_NAME,
    OLD_NAME,
    load_old_columns,
    map_columns,
    write_columns,
)
from twinlens.index.storage.columns import Columns
from twinlens.index.storage.durable import FileRecord, check_sizes, fresh_name, publish_folder
from twinlens.index.storage.item_file import ITEMS_NAME, ItemFile, ItemRecords, write_items
from twinlens.index.storage.records import SegmentRow, ShownItem
from twinlens.index.vectors.arrays import Floats, Halves, Mask, Rids, RowNumbers, as_float32
from twinlens.index.vectors.native_rescoring import RowTable, open_row_table

EMBEDDINGS_NAME = "embeddings.npy"
RIDS_NAME = "rids.npy"
# The others hold metadata for filters.
ROW_FILES = frozenset({EMBEDDINGS_NAME, SUMS_NAME, RIDS_NAME, ITEMS_NAME})
ANSWER_FILES = frozenset({EMBEDDINGS_NAME, RIDS_NAME, ITEMS_NAME})


@dataclass(frozen=True)
class Content:
    """The content of a new segment: ascending rids, and embeddings in blocks in that order."""

    rids: Rids
    dim: int
    blocks: Callable[[], Iterator[Floats | Halves]]
    columns: Callable[[], Columns]
    items: Callable[[], Iterator[ItemRecords]]


def write_segment(root: Path, content: Content) -> SegmentRow:
    """Publish a new segment folder; it joins the collection when the catalog names it."""

    def fill(folder: Path) -> None:
        count = len(content.rids)
        rows = np.lib.format.open_memmap(
            folder / EMBEDDINGS_NAME, mode="w+", dtype="<f2", shape=(count, content.dim)
        )
        start = 0
        for block in content.blocks():
            rows[start : start + len(block)] = block
            start += len(block)
        if start != count:
            raise RuntimeError(f"{start} embeddings for {count} rids: this is a bug")
        rows.flush()
        write_sums(folder / EMBEDDINGS_NAME)
        np.save(folder / RIDS_NAME, content.rids.astype("<i8"), allow_pickle=False)
        columns = content.columns()
        if columns.count != count:
            raise RuntimeError(f"{columns.count} metadata for {count} rids: this is a bug")
        write_columns(columns, folder)
        if write_items(content.items(), folder) != count:
            raise RuntimeError(f"the items are not those of {count} rids: this is a bug")

    name = fresh_name("seg")
    return SegmentRow(name, len(content.rids), publish_folder(root, name, fill))


class DeviceRows(Protocol):
    """A copy of the rows on a GPU."""

    def search(self, queries: Floats, count: int, /) -> tuple[Floats, RowNumbers] | None:
        """Return the best rows of each query, or None if the CPU has to search."""
        ...


class Segment:
    """One segment, opened for reading."""

    def __init__(self, root: Path, row: SegmentRow, dim: int) -> None:
        self.row = row
        self.name = row.name
        self._folder = root / row.name
        check_sizes(self._folder, row.files)
        # Checked and read only through these maps: the files may be unlinked before a search.
        self._maps = {name: _map(self._folder / name, record) for name, record in row.files.items()}
        self.rids: Rids = self._view(RIDS_NAME, "<i8", (row.rows,))
        self.embeddings: Halves = self._view(EMBEDDINGS_NAME, "<f2", (row.rows, dim))
        self._lock = threading.Lock()
        self._sound: set[str] = set()  # files that were checked in full
        self._checks = {name: threading.Lock() for name in row.files}
        self._blocks: CheckedBlocks | None = None
        self._columns: Columns | None = None
        items = self._maps.get(ITEMS_NAME)  # versions before it wrote none
        path = self._folder / ITEMS_NAME
        self._items = None if items is None else ItemFile(path, items, row.rows)
        # Rows and items for compiled searches, once all that these read was checked.
        self.row_table: RowTable | None = None
        self._resident: Floats | None = None
        self._device: DeviceRows | None = None
        self._device_asked = False

    def __len__(self) -> int:
        return self.row.rows

    def verify(self) -> None:
        """Check every byte of the segment, once per process."""
        if len(self._sound) < len(self._maps):
            self._verify(self._maps)

    def verify_rids(self) -> None:
        """Check the identities of all rows, once per process."""
        if RIDS_NAME not in self._sound:
            self._verify([RIDS_NAME])

    def verify_rows(self, places: RowNumbers) -> None:
        """Check the embeddings of these rows; -1 is none."""
        if EMBEDDINGS_NAME in self._sound:
            return
        if SUMS_NAME not in self._maps:  # written by a version without them
            self._verify([EMBEDDINGS_NAME])
            return
        self._verify([SUMS_NAME])
        if self._blocks is None:  # two threads may both read it
            path, raw = self._folder / EMBEDDINGS_NAME, self._maps[EMBEDDINGS_NAME]
            self._blocks = CheckedBlocks(path, raw, self._maps[SUMS_NAME])
        width = self.embeddings.itemsize * self.embeddings.shape[1]
        header = self.row.files[EMBEDDINGS_NAME].bytes - self.embeddings.nbytes
        self._blocks.check(header + width * places[places >= 0].ravel(), width)

    def _verify(self, names: Iterable[str]) -> None:
        for name in [name for name in names if name not in self._sound]:
            with self._checks[name]:  # a search need not wait for the check of another file
                if name in self._sound:
                    continue
                if hashlib.sha256(self._maps[name].data).hexdigest() != self.row.files[name].sha256:
                    raise CollectionError(
                        f"{self._folder / name} is damaged: its sha256 is not the published one;"
                        " restore the collection from a copy, or build it again in a new folder"
                    )
                self._sound.add(name)
        if self.row_table is None and self._items is not None and self._sound >= ANSWER_FILES:
            items = self._items
            self.row_table = open_row_table(self.embeddings, items.bytes, items.table)

    def select(self, tree: Filter) -> Mask:
        """Return one flag per row: whether it satisfies the filter."""
        return self.read_columns().select(tree)

    def fields(self) -> list[str]:
        """Return the metadata fields that any row has."""
        return self.read_columns().fields

    def matrix(self, resident: bool) -> Floats | Halves:
        """Return all rows: as float32 held in memory if `resident`, else mapped from disk."""
        self._verify([EMBEDDINGS_NAME])
        if not resident:
            return self.embeddings
        with self._lock:
            if self._resident is None:
                self._resident = as_float32(self.embeddings)
        return self._resident

    def on_device(self, copy: Callable[[Halves], DeviceRows | None]) -> DeviceRows | None:
        """Return all rows on the GPU, copied once, or None without a GPU."""
        self._verify([EMBEDDINGS_NAME])
        with self._lock:
            if not self._device_asked:
                self._device_asked = True
                self._device = copy(self.embeddings)
        return self._device

    def place_of(self, rids: Rids) -> RowNumbers:
        """Return the row of each rid, -1 if the rid is not in this segment."""
        if not len(self.rids):
            return np.full(len(rids), -1, dtype=np.int64)
        if self._is_dense:
            places: RowNumbers = rids - self.rids[0]
            places[(places < 0) | (places >= len(self.rids))] = -1
            return places
        places = np.minimum(np.searchsorted(self.rids, rids), len(self.rids) - 1)
        return np.where(self.rids[places] == rids, places, -1)

    def rids_of(self, places: RowNumbers) -> Rids:
        """Return the rids of rows, after a check of all; -1 stays."""
        self.verify_rids()
        rids = places + self.rids[0] if self._is_dense else self.rids[places]
        rids[places < 0] = -1
        return rids

    @functools.cached_property
    def _is_dense(self) -> bool:
        """Whether no rid is missing between the first and the last: rows can be counted."""
        return len(self.rids) > 0 and int(self.rids[-1] - self.rids[0]) == len(self.rids) - 1

    def read_items(self, rids: Sequence[int]) -> dict[int, ShownItem]:
        """Return the items of those of these rids that are rows here; none without the file."""
        if self._items is None or not len(self.rids):
            return {}
        self.verify_rids()
        places = self.place_of(np.asarray(rids, dtype=np.int64)).tolist()
        if min(places, default=0) < 0:
            here = [place >= 0 for place in places]
            rids, places = list(compress(rids, here)), list(compress(places, here))
        items = self._items.read(places, rids, is_sound=ITEMS_NAME in self._sound)
        return dict(zip(rids, items, strict=True))

    def item_records(self, places: RowNumbers) -> ItemRecords | None:
        """Return the records of the items in these rows, to be copied; None without the file."""
        return None if self._items is None else self._items.records(places)

    def read_columns(self) -> Columns:
        """Return the metadata in columns."""
        self._verify(name for name in self._maps if name not in ROW_FILES)
        with self._lock:
            if self._columns is None:
                is_old = OLD_NAME in self._maps
                read, name = (load_old_columns, OLD_NAME) if is_old else (map_columns, COLUMNS_NAME)
                self._columns = read(self._maps[name])
        return self._columns

    def _view(self, name: str, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return the array at the end of an .npy file.

        Shape and type come from the catalog; the file's own header is unchecked and not read.
        """
        raw = self._maps[name]
        offset = len(raw) - np.dtype(dtype).itemsize * math.prod(shape)
        if offset < 0:
            raise CollectionError(
                f"{self._folder / name} is too short for {shape} of {dtype}: it is damaged"
            )
        # A plain array: operations on a `memmap` are slower.
        return np.asarray(raw[offset:].view(dtype).reshape(shape))


def _map(path: Path, record: FileRecord) -> npt.NDArray[np.uint8]:
    """Map a file; raise `CollectionError` if a compaction has just removed it."""
    try:
        raw: npt.NDArray[np.uint8] = np.memmap(path, np.uint8, "r", shape=(record.bytes,))
    except (OSError, ValueError) as error:
        raise CollectionError(f"{path} cannot be mapped: {error}") from error
    return raw
