"""Listings of folders and shards, kept under `TWINLENS_CACHE/listings`.

A listing carries facts about what it lists (of a shard its size and time of change, of a folder
those of all folders in it); while the facts are the same it is read instead of made. An image or
caption that is overwritten in place in a folder changes none of these facts: touch its folder then.
What must stay true: small data are always listed anew, so nobody trips over that by accident.
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

LEAST = 5_000  # records: fewer are listed anew in no time


def keep_listing(
    name: str,
    facts: Any,
    make: Callable[[], RecordColumns],
    is_whole: Callable[[], bool] = lambda: True,
) -> RecordColumns:
    """Return the kept listing of `name`, or make it, and keep it if it is large and whole."""
    path = find_listing(name)
    found = read_columns(path, facts)
    if found is not None:
        return found
    made = make()
    if len(made) >= LEAST and is_whole() and all(can_hold(record) for record in made):
        _write(path, made.to_bytes(facts))
    return made


def read_facts(path: Path) -> Any:
    """Return what a kept listing says of what it lists; None where there is none."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return json.loads(arrays["facts"].tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def find_listing(name: str) -> Path:
    """Return where the listing of a name is kept."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return find_cache() / "listings" / f"{digest}.npz"


def _write(path: Path, content: bytes) -> None:
    """Write beside and rename; a cache that cannot be written costs time only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError:
        return
