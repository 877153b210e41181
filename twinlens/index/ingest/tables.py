"""Tables of images: CSV, TSV, JSONL and Parquet as rows of typed values."""

from __future__ import annotations

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twinlens.errors import MissingDependencyError


def read_table(path: Path) -> Iterable[dict[str, Any]]:
    """Return the rows of a table, by its suffix."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return read_parquet(path)
    if suffix == ".jsonl":
        return read_lines(path)
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, delimiter="\t" if suffix == ".tsv" else ",")
        return [{key: _scalar(value) for key, value in row.items()} for row in reader]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for _, line in split_lines(path.read_bytes())]


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
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


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
