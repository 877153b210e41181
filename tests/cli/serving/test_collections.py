"""The collections that `twinlens serve` opens when it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlens.cli.serving.collections import Images, open_collections
from twinlens.errors import CollectionError, InputError
from twinlens.index.writer import create_collection


def test_a_folder_of_images_is_indexed_once_and_served(
    tmp_path: Path, squares: dict[str, bytes], toy_bundle: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for colour, raw in squares.items():
        (photos / f"{colour}.png").write_bytes(raw)
    for _ in range(2):  # the second start reuses the collection of the first
        store = open_collections([], Images(photos), tmp_path / "data", str(toy_bundle))
        assert store.find("images").collection.count() == len(squares)
        store.close()
    assert len(list((tmp_path / "data" / "images").iterdir())) == 1
    # Another encoder: indexed again.
    store = open_collections([], Images(photos), tmp_path / "data", "builtin")
    assert store.find("images").collection.head.bundle_name == "builtin"
    assert store.find("images").collection.count() == len(squares)
    store.close()
    assert len(list((tmp_path / "data" / "images").iterdir())) == 2


def test_named_collections_are_served_and_faults_are_named(tmp_path: Path) -> None:
    create_collection(tmp_path / "c", dim=4)
    store = open_collections([f"a={tmp_path / 'c'}", f"b={tmp_path / 'c'}"], None, None, "builtin")
    assert [served.name for served in store.all()] == ["a", "b"]
    store.close()
    with pytest.raises(InputError, match="NAME=DIR"):
        open_collections([str(tmp_path / "c")], None, None, "builtin")
    with pytest.raises(CollectionError, match="not a collection"):
        open_collections([f"a={tmp_path}"], None, None, "builtin")
    with pytest.raises(InputError, match="two collections"):
        open_collections([f"a={tmp_path / 'c'}"] * 2, None, None, "builtin")
