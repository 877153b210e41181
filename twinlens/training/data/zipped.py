"""A zip with `index.jsonl` (a row per image, `file` names the entry), or of class folders."""

from __future__ import annotations

import json
import threading
import zipfile
from pathlib import Path

from twinlens.errors import InputError
from twinlens.index.ingest.tables import split_lines
from twinlens.training.data.records import Record, is_image
from twinlens.training.data.rows import FILE_KEYS, first, read_texts

INDEX = "index.jsonl"


class ZipSource:
    """Images in one zip file, in the order of its index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise InputError(f"{path} is not a zip file: {error}") from None
        self._lock = threading.Lock()  # ZipFile shares one file position
        sizes = {entry.filename: entry.file_size for entry in self._zip.infolist()}
        self.records = self._indexed(sizes) if INDEX in sizes else _plain(sizes)

    def read(self, index: int) -> bytes:
        """Return the bytes of image `index`."""
        with self._lock:
            return self._zip.read(self.records[index].key)

    def _indexed(self, sizes: dict[str, int]) -> list[Record]:
        records = []
        for number, line in split_lines(self._zip.read(INDEX)):
            try:
                row = json.loads(line)
                name = str(first(row, FILE_KEYS))
            except (ValueError, AttributeError) as error:
                raise InputError(f"{self.path}: {INDEX} line {number}: {error}") from None
            records.append(Record(name, sizes.get(name, 0), **read_texts(row)))
        return records


def _plain(sizes: dict[str, int]) -> list[Record]:
    records = []
    for name in sorted(filter(is_image, sizes)):
        folders = name.split("/")[:-1]
        records.append(Record(name, sizes[name], folders[0] if folders else None))
    return records
