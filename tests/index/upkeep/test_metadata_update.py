"""Metadata changes alone; embeddings and the place of the file stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.upkeep.metadata_update import update_metadata
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]


@pytest.fixture
def filled(writer: Writer, rows: Make) -> Writer:
    """Sixty items in a segment and one in the delta."""
    ids = [f"i{n}" for n in range(60)]
    metadata = [{"n": n, "path": f"/p/{n}", "caption": "a cat"} for n in range(60)]
    writer.upsert(ids, rows(60), metadata, ["v-1"] * 60)
    writer.upsert(["late"], rows(1), [{"n": 99}])
    return writer


@pytest.mark.parametrize("id", ["i7", "late"])
def test_fields_are_merged_and_the_embedding_stays(filled: Writer, id: str) -> None:
    before, version = filled.collection.embedding(id), filled.collection.get(id).version
    assert update_metadata(filled, {id: {"n": None, "tone": "warm"}, "none": {}}) == ["none"]
    item = filled.collection.get(id)
    assert item.metadata.get("tone") == "warm"
    assert "n" not in item.metadata
    assert item.version == version
    assert np.array_equal(filled.collection.embedding(id), before)
    with Collection(filled.folder) as reader:
        hits = reader.search(before, 1, filter='tone = "warm"')[0]
        assert [hit.id for hit in hits] == [id]
        assert len(reader) == 61


def test_replacing_keeps_the_place_of_the_file_alone(filled: Writer) -> None:
    update_metadata(filled, {"i3": {"a": 1}}, replace=True)
    assert filled.collection.get("i3").metadata == {"path": "/p/3", "a": 1}


def test_captions_follow(filled: Writer) -> None:
    filled.index_captions()
    update_metadata(filled, {"i3": {"caption": "a zebra"}})
    found = filled.catalog.select("SELECT count(*) FROM captions WHERE captions MATCH 'zebra'")
    assert found[0][0] == 1


def test_the_place_of_a_file_cannot_be_changed(filled: Writer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be changed"):
        update_metadata(filled, {"i1": {"path": str(tmp_path)}})
    assert filled.collection.get("i1").metadata["path"] == "/p/1"


def test_many_changes_are_sealed(filled: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinlens.index.upkeep.metadata_update.SEAL_ROWS", 30)
    update_metadata(filled, {f"i{n}": {"m": n} for n in range(60)})
    assert filled.catalog.delta_count() == 0
    assert filled.collection.count("m >= 30") == 30
