"""A set of ids and a list of files that take little room, and answer as a set and a list do."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.index.ingest import file_list, id_set
from twinlens.index.ingest.file_list import FileList
from twinlens.index.ingest.id_set import IdSet


@settings(max_examples=100, deadline=None)
@given(
    added=st.lists(st.text(max_size=3), max_size=60, unique=True),
    asked=st.lists(st.text(max_size=3), max_size=20),
)
def test_an_id_is_in_the_set_once_it_was_added(added: list[str], asked: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_set, "RECENT", 4)
        ids = IdSet()
        for number, name in enumerate(added):
            assert not ids.has([name])[0]
            ids.add(name)
            assert ids.has(added).tolist() == [True] * (number + 1) + [False] * (
                len(added) - number - 1
            )
        assert len(ids) == len(added)
        assert ids.has(asked).tolist() == [name in added for name in asked]


def test_ids_take_sixteen_bytes_each_in_few_arrays() -> None:
    ids = IdSet()
    for number in range(5 * id_set.RECENT // 2):
        ids.add(f"folder/{number}.jpg")
    assert [array.nbytes for array in ids._sorted] == [2 * 16 * id_set.RECENT]
    assert ids.has(["folder/7.jpg", "caf\udce9.png"]).tolist() == [True, False]


_NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), max_size=30))
def test_a_file_list_yields_what_was_added_in_order(paths: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_list, "BLOCK", 3)
        files = FileList()
        for path in paths:
            files.add(path)
        assert (len(files), list(files), list(files)) == (len(paths), paths, paths)


def test_a_file_list_holds_names_that_are_no_text_in_little_room() -> None:
    files = FileList()
    names = [f"some/long/folder/{number:06}.jpg" for number in range(20_000)]
    for name in [*names, "caf\udce9.png"]:
        files.add(name)
    assert list(files)[-1] == "caf\udce9.png"
    taken = sum(sys.getsizeof(block) for _, block in files._blocks)
    assert taken < 0.2 * sum(map(sys.getsizeof, names))
