"""The places that keep a collection: a folder, the stand-in in memory, and real stores.

The real ones are installed by `make test-scale`; the default tests run the first two.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.index.stores.memory_store import MemoryStore, Shelf
from twinlens.index.collection import Collection
from twinlens.index.storage.records import Head
from twinlens.index.stores.opening import open_store, parse_address
from twinlens.index.stores.store import VectorStore
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.stores.store_writer import StoreWriter
from twinlens.index.writer import Writer, create_collection

DIM = 16
REAL = ("postgres", "milvus")
KINDS = ["local", "memory", *(pytest.param(kind, marks=pytest.mark.scale) for kind in REAL)]
_numbers = itertools.count()


@dataclass(frozen=True)
class Keeper:
    """What keeps one collection, and how it is opened."""

    kind: str
    open_writer: Callable[[], Writer]
    open_reader: Callable[[], Collection]


def make_head(dim: int = DIM, revision: str = "r1") -> Head:
    return Head(dim, "fake", revision, "", created="2026-01-01T00:00:00+00:00")


@pytest.fixture(scope="session")
def postgres_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        import pgserver

        server = pgserver.get_server(tmp_path_factory.mktemp("pg"))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=KINDS)
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeper]:
    """An empty collection of 16 dimensions."""
    kind: str = request.param
    if kind == "local":
        create_collection(tmp_path / "c", dim=DIM, bundle_name="fake", bundle_revision="r1")
        yield Keeper(
            kind, lambda: Writer(tmp_path / "c", seal_rows=50), lambda: Collection(tmp_path / "c")
        )
        return
    opened: list[VectorStore] = []

    def watch(store: VectorStore) -> StoreCollection:
        opened.append(store)
        return StoreCollection(store, tmp_path)

    open_one = find_opener(kind, request, tmp_path)
    yield Keeper(kind, lambda: StoreWriter(watch(open_one())), lambda: watch(open_one()))
    for store in opened:
        store.close()


@pytest.fixture
def writer(keeper: Keeper) -> Iterator[Writer]:
    opened = keeper.open_writer()
    yield opened
    opened.close()


def find_opener(
    kind: str, request: pytest.FixtureRequest, place: Path
) -> Callable[[], VectorStore]:
    """Return what opens an empty store of a kind, and opens it again."""
    if kind == "memory":
        shelf = Shelf(make_head())
        return lambda: MemoryStore(shelf)
    address = parse_address(find_uri(kind, request, place))
    assert address is not None
    found = address
    return lambda: open_store(found, make_head())


def find_uri(kind: str, request: pytest.FixtureRequest, place: Path) -> str:
    """Return the address of a collection that does not exist yet."""
    name = f"c{next(_numbers)}"
    if kind == "postgres":
        uri: str = request.getfixturevalue("postgres_uri")
        return f"{uri}&collection={name}"
    return f"milvus://{place}/store.db?collection={name}"
