"""The collections of a server: found by name, created and deleted in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.index.writer import create_collection
from twinlens.serving.collections.store import CollectionStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CollectionStore]:
    opened = CollectionStore(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A collection that lies elsewhere."""
    create_collection(tmp_path / "elsewhere" / "given", dim=4)
    return tmp_path / "elsewhere" / "given"


def create(store: CollectionStore, name: str) -> None:
    store.create(name, dim=4, bundle="toy", revision="a" * 64, source="toy")


def test_a_collection_created_here_is_deleted_and_one_given_by_folder_is_left(
    store: CollectionStore, given: Path, tmp_path: Path
) -> None:
    create(store, "made")
    store.add("given", given)
    store.remove("made")
    store.remove("given")
    assert store.all() == []
    assert not (tmp_path / "data" / "made").exists()
    assert (given / "catalog.sqlite").exists()


def test_a_store_opens_what_an_earlier_one_created_and_nothing_else(tmp_path: Path) -> None:
    first = CollectionStore(tmp_path / "data")
    create(first, "b")
    create(first, "a")
    first.close()
    (tmp_path / "data" / "notes").mkdir()
    (tmp_path / "data" / "a file").touch()
    again = CollectionStore(tmp_path / "data")
    assert [one.name for one in again.all()] == ["a", "b"]
    assert again.find("a").collection.head.bundle_name == "toy"
    again.close()


def test_without_a_name_the_only_collection_is_found(store: CollectionStore, given: Path) -> None:
    with pytest.raises(InputError, match="name a collection; known collections are: none"):
        store.find(None)
    store.add("given", given)
    assert store.find(None) is store.find("given")
    create(store, "made")
    with pytest.raises(InputError, match="known collections are: given, made") as caught:
        store.find(None)
    assert caught.value.field == "collection"
    with pytest.raises(
        NotFoundError, match="no collection 'other'; known collections are: given, made"
    ):
        store.find("other")


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "ä", "x" * 65])
def test_a_name_that_could_leave_the_folder_is_refused(
    store: CollectionStore, name: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is not usable") as caught:
        create(store, name)
    assert caught.value.field == "name"
    assert not list(tmp_path.rglob("catalog.sqlite"))


def test_a_name_is_given_once(store: CollectionStore, given: Path) -> None:
    create(store, "x" * 64)
    with pytest.raises(ConflictError, match="exists already"):
        create(store, "x" * 64)
    with pytest.raises(InputError, match="two collections are called"):
        store.add("x" * 64, given)


def test_a_server_without_a_folder_says_how_to_get_one(given: Path) -> None:
    store = CollectionStore()
    store.add("given", given)
    with pytest.raises(InputError, match="start it with --data DIR"):
        create(store, "made")
    store.close()
