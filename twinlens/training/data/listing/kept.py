"""Listings of folders and shards, kept under `TWINLENS_CACHE/listings`.

A listing stores facts: of a shard its size and time of change, of a folder those of all folders in
it. While the facts are equal, the listing is read instead of made. Overwriting an image or caption
in place changes no fact of its folder: touch the folder then.

What must stay true: small data are always listed anew, so that no one meets that case by accident.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.cache import find_cache
from twinlens.training.data.listing.columns import RecordColumns, can_hold, read_columns

LEAST = 5_000  # records: fewer are listed anew, which is quick


def keep_listing(
    name: str,
    facts: Any,
    make: Callable[[], RecordColumns],
    is_whole: Callable[[], bool] = lambda: True,
) -> RecordColumns:
    """Return the kept listing of `name`, or make it, and keep it if it is large and undamaged."""
    path = find_listing(name)
    found = read_columns(path, facts)
    if found is not None:
        return found
    made = make()
    if len(made) >= LEAST and is_whole() and all(can_hold(record) for record in made):
        _write(path, made.to_bytes(facts))
    return made


def read_facts(path: Path) -> Any:
    """Return the facts in a kept listing; None if there is no listing."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return json.loads(arrays["facts"].tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def find_listing(name: str) -> Path:
    """Return the path of a kept listing."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return find_cache() / "listings" / f"{digest}.npz"


def _write(path: Path, content: bytes) -> None:
    """Write atomically; if the cache cannot be written, only time is lost."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError:
        return
