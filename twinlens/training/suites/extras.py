"""Files beside a user's pictures: caption pairs, and names in other languages.

What must stay true: an error in a file names its line or its field.
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinlens.errors import InputError

PAIRS = "sugarcrepe.jsonl"  # rows of {file, kind, caption, negative}, as SugarCrepe publishes them
_FIELDS = ("file", "kind", "caption", "negative")

ListedPair = tuple[str, str, str]  # kind, true caption, false caption


def read_listed_pairs(where: str) -> dict[str, tuple[ListedPair, ...]]:
    """Return the caption pairs in a data set's `sugarcrepe.jsonl` by the picture's name."""
    text = _read_pairs_file(Path(where))
    found: dict[str, list[ListedPair]] = defaultdict(list)
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        row = _parse(line, f"{where}: {PAIRS} line {number}")
        missing = [name for name in _FIELDS if not isinstance(row.get(name), str)]
        if missing:
            raise InputError(
                f"{where}: {PAIRS} line {number} lacks {missing[0]}; each line needs"
                f" {', '.join(_FIELDS)}",
                field="DATA",
            )
        found[row["file"]].append((row["kind"], row["caption"].strip(), row["negative"].strip()))
    return {name: tuple(pairs) for name, pairs in found.items()}


def read_translations(path: Path) -> dict[str, dict[str, str]]:
    """Return {language: {English name: name}} of a JSON file; English itself is left out."""
    if not path.is_file():
        raise InputError(f"--names {str(path)!r} is not a file", field="--names")
    content = _parse(path.read_text(encoding="utf-8"), f"--names {path}")
    wrong = [
        language
        for language, names in content.items()
        if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values())
    ]
    if wrong or not content:
        raise InputError(
            f"--names {path} must be {{language: {{English name: name}}}};"
            f" {wrong[0] if wrong else 'it'} is not",
            field="--names",
        )
    return {language: dict(names) for language, names in content.items() if language != "en"}


def _read_pairs_file(path: Path) -> str:
    if path.is_dir() and (path / PAIRS).is_file():
        return (path / PAIRS).read_text(encoding="utf-8")
    if path.suffix == ".zip" and path.is_file():
        with zipfile.ZipFile(path) as archive:
            if PAIRS in archive.namelist():
                return archive.read(PAIRS).decode()
    return ""


def _parse(text: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}", field="DATA") from None
    if not isinstance(row, dict):
        raise InputError(f"{where} does not hold an object", field="DATA")
    return row
