"""From a row of an index (JSON, CSV, Parquet, a tar's sidecar) to label and captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE_KEYS = ("file", "path", "image", "filepath", "file_name", "filename", "url")
LABEL_KEYS = ("cls", "class", "label", "category", "kind")
CAPTION_KEYS = ("captions", "caption", "text", "title", "name")
SENTENCE = "sentence"
NEGATIVE_KEYS = ("negatives", "negative", "hard_negatives")


def first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """Return the first of the `keys` that has a value."""
    for key in keys:
        if row.get(key) not in (None, ""):
            return row[key]
    return None


def read_label(row: Mapping[str, Any]) -> str | None:
    """Return the row's label as text; `cls` takes precedence over a bare number in `label`."""
    value = first(row, LABEL_KEYS)
    return None if value is None else str(value)


def read_captions(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row's captions."""
    return _texts(row, CAPTION_KEYS)


def read_negatives(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the captions listed as almost true of the row's image."""
    return _texts(row, NEGATIVE_KEYS)


def read_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return label, captions and negatives, under a record's field names.

    A sentence whose label is a truth value (as in NLVR) becomes a caption or a negative.
    """
    sentence, truth = row.get(SENTENCE), row.get("label")
    if isinstance(sentence, str) and sentence.strip() and isinstance(truth, bool):
        told = (sentence.strip(),)
        return {"label": None, "captions": told * truth, "negatives": told * (not truth)}
    return {
        "label": read_label(row),
        "captions": read_captions(row),
        "negatives": read_negatives(row),
    }


def _texts(row: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    value = first(row, keys)
    if value is None:
        return ()
    texts = value if isinstance(value, list) else [value]
    return tuple(str(text).strip() for text in texts if str(text).strip())
