"""CSV, TSV or Parquet of path and caption (or label); paths are relative to the table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinlens.errors import InputError
from twinlens.index.ingest.tables import read_parquet
from twinlens.training.data.records import Record
from twinlens.training.data.rows import FILE_KEYS, first, read_texts


class TableSource:
    """Images named by a table."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        rows = read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
        self.records = [_record(path, self.folder, row) for row in rows]

    def read(self, index: int) -> bytes:
        """Return the bytes of image `index`."""
        return (self.folder / self.records[index].key).read_bytes()


def _record(table: Path, folder: Path, row: Mapping[str, Any]) -> Record:
    name = first(row, FILE_KEYS)
    if name is None:
        columns, wanted = ", ".join(map(str, row)), ", ".join(FILE_KEYS)
        raise InputError(f"{table}: no path among the columns {columns}; name one of {wanted}")
    path = folder / str(name)
    size = path.stat().st_size if path.is_file() else 0
    return Record(str(name), size, **read_texts(row))


def _read_csv(path: Path) -> list[dict[str, Any]]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))
