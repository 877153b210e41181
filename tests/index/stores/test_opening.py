"""Addresses of stores: what they name, what is refused, and that no password is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlens.errors import InputError
from twinlens.index.stores.opening import find_folder, parse_address


def test_a_folder_is_no_address() -> None:
    assert parse_address("photos.index") is None
    assert parse_address("/data/photos.index") is None


def test_an_address_names_its_collection_and_hides_its_password() -> None:
    text = "postgresql://me:secret@db:5433/photos?collection=summer&sslmode=require"
    address = parse_address(text)
    assert address is not None
    assert address.uri == "postgresql://me:secret@db:5433/photos?sslmode=require"
    assert address.name == "summer"
    assert address.shown == "postgresql://me@db:5433/photos?collection=summer"


def test_a_file_of_milvus_lite_is_an_absolute_path() -> None:
    address = parse_address("milvus:///data/photos.db")
    assert address is not None
    assert (address.name, address.shown) == ("photos", "milvus:///data/photos.db?collection=photos")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("redis://here", "redis:// is not a store"),
        ("postgresql://db/x?collection=Bad-Name", "small letter"),
        ("postgresql://db/x?collection=a;drop", "small letter"),
        ("milvus://here:19530?collection=" + "a" * 41, "40 at most"),
    ],
)
def test_an_address_that_cannot_work_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_address(text)


def test_thumbnails_of_different_stores_lie_apart(tmp_path: Path) -> None:
    texts = ["postgresql://a/db", "postgresql://b/db", "postgresql://a/db?collection=x"]
    addresses = [parse_address(text) for text in texts]
    folders = {find_folder(one, tmp_path) for one in addresses if one is not None}
    assert len(folders) == 3 and all(folder.is_dir() for folder in folders)
