"""The places that keep a collection: a folder, the stand-in in memory, and real stores.

The real ones are installed by `make test-scale`; the default tests run the first two.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.stores.memory_store import MemoryStore, Shelf
from twinlens.index.storage.records import Head
from twinlens.index.stores.opening import open_store, parse_address
from twinlens.index.stores.store import VectorStore

DIM = 16
REAL = ("postgres", "milvus")
KINDS = ["local", "memory", *(pytest.param(kind, marks=pytest.mark.scale) for kind in REAL)]
STORES = KINDS[1:]
_numbers = itertools.count()


def make_head(dim: int = DIM, revision: str = "r1") -> Head:
    return Head(dim, "fake", revision, "", created="2026-01-01T00:00:00+00:00")


def find_opener(
    kind: str, request: pytest.FixtureRequest, place: Path, revision: str = "r1"
) -> Callable[[], VectorStore]:
    """Return what opens an empty store of a kind, and opens it again."""
    if kind == "memory":
        shelf = Shelf(make_head(revision=revision))
        return lambda: MemoryStore(shelf)
    address = parse_address(find_uri(kind, request, place))
    assert address is not None
    found = address
    return lambda: open_store(found, make_head(revision=revision))


def find_uri(kind: str, request: pytest.FixtureRequest, place: Path) -> str:
    """Return the address of a collection that does not exist yet."""
    name = f"c{next(_numbers)}"
    if kind == "postgres":
        uri: str = request.getfixturevalue("postgres_uri")
        return f"{uri}&collection={name}"
    return f"milvus://{place}/store.db?collection={name}"
