"""Tables of images: CSV, TSV, JSONL and Parquet as rows of typed values."""

from __future__ import annotations

import csv
import datetime
import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from twinlens.errors import InputError, MissingDependencyError


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: where it stands in its table, and why."""

    where: str
    reason: str


def read_table(path: Path) -> list[dict[str, Any] | BadRow]:
    """Return the rows of a table, by its suffix."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return list(read_parquet(path))
    if suffix == ".jsonl":
        return list(_read_objects(path))
    try:
        return list(_read_cells(path, "\t" if suffix == ".tsv" else ","))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}; save it as UTF-8 text") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file; refuse one with a bad line, since rows are counted."""
    rows = []
    for row in _read_objects(path):
        if isinstance(row, BadRow):
            raise InputError(f"{path} {row.where}: {row.reason}; correct it, or write it again")
        rows.append(row)
    return rows


def _read_objects(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    for number, line in split_lines(path.read_bytes()):
        try:
            row = json.loads(line)
        except ValueError as error:
            yield BadRow(f"line {number}", f"not JSON ({error})")
            continue
        is_object = isinstance(row, dict)
        yield row if is_object else BadRow(f"line {number}", f"{line[:40]!r} is not a JSON object")


def _read_cells(path: Path, delimiter: str) -> Iterator[dict[str, Any] | BadRow]:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, delimiter=delimiter)
        for row in reader:
            if None in row:  # where `csv` keeps the cells that no column names
                reason = f"{len(row[None])} more cells than the {len(row) - 1} columns"
                yield BadRow(f"line {reader.line_num}", reason)
            else:
                yield {key: _scalar(value) for key, value in row.items()}


def split_lines(raw: bytes) -> Iterator[tuple[int, bytes]]:
    r"""Yield the lines of a JSONL file with their numbers, empty ones left out.

    Lines end with `\n` alone: JSON strings may hold U+2028, U+0085 and other breaks as they are.
    """
    for number, line in enumerate(raw.removeprefix(BOM_UTF8).split(b"\n"), 1):
        if line.strip():
            yield number, line


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            f"{path}: Parquet needs pyarrow; install it with `pip install 'twinlens[parquet]'`"
        ) from None
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}") from None
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """Return a Parquet value as JSON can hold it: decimals as numbers, bytes as text."""
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.decode(errors="replace")
        case datetime.timedelta():
            return value.total_seconds()
        case dict():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
    return value


def _scalar(text: str | None) -> Any:
    """Return a CSV cell as a number or a boolean if it spells one."""
    if text is None or text == "":
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        # "007" and "1_000" are names, not numbers; nan and inf are not valid JSON.
        return value if text.strip("+-").replace(".", "").isdigit() and not _padded(text) else text
    return text


def _padded(text: str) -> bool:
    digits = text.strip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1] != "."
