"""From a row of an index (JSON, CSV, Parquet, a tar's sidecar) to label and captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE_KEYS = ("file", "path", "image", "filepath", "file_name", "filename", "url")
LABEL_KEYS = ("cls", "class", "label", "category", "kind")
CAPTION_KEYS = ("captions", "caption", "text", "title", "name")


def first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """Return the first value among `keys` that is set."""
    for key in keys:
        if row.get(key) not in (None, ""):
            return row[key]
    return None


def read_label(row: Mapping[str, Any]) -> str | None:
    """Return the row's label as text; `cls` wins over a bare number in `label`."""
    value = first(row, LABEL_KEYS)
    return None if value is None else str(value)


def read_captions(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row's captions."""
    value = first(row, CAPTION_KEYS)
    if value is None:
        return ()
    texts = value if isinstance(value, list) else [value]
    return tuple(str(text).strip() for text in texts if str(text).strip())
