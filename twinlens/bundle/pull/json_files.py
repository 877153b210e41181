"""Reads the JSON files of a repository; every error names the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinlens.errors import BundleError

JsonObject = Mapping[str, Any]


def read_json(path: Path) -> Any:
    """Return the parsed file; raise, naming it, if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} is not JSON: {error}") from None


@contextmanager
def understanding(file: str) -> Iterator[None]:
    """Turn an exception about a file's unexpected form into an error that names the file."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BundleError(f"{file} has an unknown format ({reason})") from error
