"""The items of a segment: copied exactly, checked when read, and told by searches."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.errors import CollectionError
from twinlens.index.collection import Collection
from twinlens.index.storage import item_file
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.item_file import (
    ITEMS_NAME,
    ItemFile,
    encode_items,
    write_items,
)
from twinlens.index.storage.records import ShownItem, dump_metadata
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

DIM = 8
_ITEMS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
        st.dictionaries(st.sampled_from(["a", "é"]), st.sampled_from([None, 1, 2.5, "ü", [1, {}]])),
    ),
    min_size=1,
    max_size=30,
)


def write(folder: Path, items: Sequence[tuple[str, dict[str, Any]]], first: int = 5) -> ItemFile:
    rids = np.arange(first, first + len(items))
    bodies = [dump_metadata(metadata) for _, metadata in items]
    assert write_items([encode_items(rids, [name for name, _ in items], bodies)], folder) == len(
        items
    )
    return open_items(folder, len(items))


def open_items(folder: Path, count: int) -> ItemFile:
    raw = np.fromfile(folder / ITEMS_NAME, np.uint8)
    return ItemFile(folder / ITEMS_NAME, raw, count)


@settings(max_examples=60, deadline=None)
@given(items=_ITEMS, seed=st.integers(0, 99))
def test_records_are_read_and_copied_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, dict[str, Any]]], seed: int
) -> None:
    file = write(tmp_path_factory.mktemp("a"), items)
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(rng.random(len(items)) < 0.7)
    if seed % 2:
        places = rng.permutation(places)
    rids = (places + 5).tolist()
    wanted = [ShownItem(*items[place]) for place in places]
    assert file.read(places.tolist(), rids) == wanted
    copy = tmp_path_factory.mktemp("b")
    half = len(places) // 2
    blocks = [file.records(part) for part in (places[:half], places[half:])]
    assert write_items(blocks, copy) == len(places)
    assert open_items(copy, len(places)).read(range(len(places)), rids) == wanted


def test_a_flipped_byte_is_found_where_it_is_read(tmp_path: Path) -> None:
    items: list[tuple[str, dict[str, Any]]] = [(f"i{n}", {"n": n}) for n in range(20)]
    write(tmp_path, items)
    sound = (tmp_path / ITEMS_NAME).read_bytes()
    wanted = [ShownItem(*one) for one in items]
    found = 0
    for place in range(len(sound)):
        raw = bytearray(sound)
        raw[place] ^= 1 << random.Random(place).randrange(8)
        (tmp_path / ITEMS_NAME).write_bytes(raw)
        try:
            assert open_items(tmp_path, 20).read(range(20), range(5, 25)) == wanted
        except CollectionError as error:
            assert "damaged" in error.message
            found += 1
    assert found >= len(sound) - 7  # the rest fills up to the table


def test_a_record_is_not_read_for_another_row(tmp_path: Path) -> None:
    file = write(tmp_path, [("a", {}), ("b", {})])
    with pytest.raises(CollectionError, match="does not match its checksum"):
        file.read([0], [6])


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    create_collection(tmp_path / "c", dim=DIM)
    return Writer(tmp_path / "c")


def fill(writer: Writer, first: int, count: int) -> np.ndarray[Any, Any]:
    rows = np.random.default_rng(first).standard_normal((count, DIM)).astype(np.float32)
    numbers = range(first, first + count)
    writer.upsert([f"i{n}" for n in numbers], rows, [{"n": n} for n in numbers])
    return rows


def test_a_search_reads_sealed_items_without_the_catalog(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer:
        rows = fill(writer, 0, 50)
        writer.seal()
        fresh = fill(writer, 50, 3)
        writer.collection.refresh()
        asked: list[int] = []
        by_rid = Catalog.by_rid

        def note(self: Catalog, rids: Sequence[int]) -> Any:
            asked.extend(rids)
            return by_rid(self, rids)

        monkeypatch.setattr(Catalog, "by_rid", note)
        for number, row in enumerate(rows):
            hit = writer.collection.search(row, 1)[0][0]
            assert (hit.id, hit.metadata) == (f"i{number}", {"n": number})
        assert asked == []
        assert writer.collection.search(fresh[1], 1)[0][0].id == "i51"
        assert asked == [52]


def test_items_survive_merges_and_segments_without_them_gain_theirs(writer: Writer) -> None:
    with writer:
        rows = fill(writer, 0, 40)
        writer.seal()
        (old,) = writer.catalog.segments()
        (writer.folder / old.name / ITEMS_NAME).unlink()  # as versions before wrote it
        files = {name: record for name, record in old.files.items() if name != ITEMS_NAME}
        with writer.catalog.writing(new_generation=True) as transaction:
            transaction.insert_segment(dataclasses.replace(old, files=files))
    with Writer(writer.folder) as again:
        assert again.collection.search(rows[7], 1)[0][0].id == "i7"
        rows = np.concatenate([rows, fill(again, 40, 40)])
        again.seal()
        again.delete([f"i{n}" for n in range(0, 80, 3)])
        again.compact(full=True)
        (row,) = again.catalog.segments()
        assert ITEMS_NAME in row.files
        assert verify_collection(again.folder).is_sound
        (part,) = again.collection.snapshot().parts
        told = part.segment.read_items(part.segment.rids.tolist())
        items = again.catalog.by_rid(part.segment.rids.tolist())
        assert told == {rid: ShownItem(one.id, one.metadata) for rid, one in items.items()}
        for number in (1, 44, 79):
            assert again.collection.search(rows[number], 1)[0][0].id == f"i{number}"


def test_records_of_a_file_that_was_checked_are_not_checked_one_by_one(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer:
        rows = fill(writer, 0, 20)
        writer.seal()
        broken = SimpleNamespace(crc32=lambda record, start: -1)
        monkeypatch.setattr(item_file, "zlib", broken)
        with Collection(writer.folder) as reader:
            with pytest.raises(CollectionError, match="does not match its checksum"):
                reader.search(rows[3], 1)
            reader.warm()  # checks every file by its hash
            assert reader.search(rows[3], 1)[0][0].id == "i3"
