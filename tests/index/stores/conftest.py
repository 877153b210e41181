"""An empty collection in each of the places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.index.stores.places import DIM, KINDS, find_opener
from twinlens.index.collection import Collection
from twinlens.index.stores.store import VectorStore
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.stores.store_writer import StoreWriter
from twinlens.index.writer import Writer, create_collection


@dataclass(frozen=True)
class Keeper:
    """What keeps one collection, and how it is opened."""

    kind: str
    open_writer: Callable[[], Writer]
    open_reader: Callable[[], Collection]


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
