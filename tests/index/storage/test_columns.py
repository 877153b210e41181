"""Columns on disk: mapped, joined from blocks and segments, and equal to the items' metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.filters import matches
from twinlens.index.storage import column_build, words
from twinlens.index.storage.column_build import build_columns, join_columns
from twinlens.index.storage.column_file import (
    ALIGNMENT,
    COLUMNS_NAME,
    map_columns,
    write_columns,
)
from twinlens.index.storage.columns import Columns
from twinlens.index.storage.words import Words, join_words

FILTERS = [
    parse_filter(text)
    for text in (
        *('a = "é"', 'a contains "b"', 'a < "b"', 'a > ""', "a >= 1", "a = true", "has a"),
        *("not has b", 'b in ("a", "\U0001f600")', 'b != "ab"', 'b contains ""', "b < 2.5"),
    )
]
_SCALARS = st.one_of(
    st.booleans(),
    st.sampled_from(["", "a", "ab", "ba", "b", "é", "e\0", "\U0001f600", "\uffff"]),
    st.sampled_from([0, 1, 2.5, -3]),
)
_ITEMS = st.dictionaries(
    st.sampled_from(["a", "b"]), st.one_of(_SCALARS, st.lists(_SCALARS, max_size=3))
)


def agree(columns: Columns, items: list[dict[str, Any]]) -> None:
    assert columns.count == len(items)
    for tree in FILTERS:
        assert columns.select(tree).tolist() == [matches(tree, item) for item in items], tree


@settings(max_examples=100, deadline=None)
@given(items=st.lists(_ITEMS, max_size=30), seed=st.integers(0, 99))
def test_columns_of_blocks_and_of_chosen_rows_agree_with_the_items(
    items: list[dict[str, Any]], seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_build, "BLOCK", 7)
        patch.setattr(words, "BLOCK", 5)
        columns = build_columns(items)
        agree(columns, items)
        rng = np.random.default_rng(seed)
        kept = rng.permutation(np.flatnonzero(rng.random(len(items)) < 0.7))
        numbers = np.full(len(items), -1)
        numbers[kept] = np.arange(len(kept))
        again = join_columns([(columns, numbers)], len(kept))
        agree(again, [items[row] for row in kept])
        for key, column in again.columns.items():
            assert len(column.values), key  # a field that only dropped rows had is gone


def test_columns_are_mapped_and_not_copied(tmp_path: Path) -> None:
    items = [{"a": f"w{n % 5}", "n": n, **({"odd": True} if n % 2 else {})} for n in range(50)]
    write_columns(build_columns(items), tmp_path)
    raw = np.memmap(tmp_path / COLUMNS_NAME, np.uint8, "r")
    columns = map_columns(raw)
    assert columns.columns["n", "number"].rows is None  # each row has one
    assert columns.columns["odd", "flag"].rows is not None
    for column in columns.columns.values():
        there = [column.rows, column.values]
        there += [column.words.offsets, column.words.text] if column.words else []
        for array in there:
            if array is not None:
                assert np.shares_memory(array, raw)
                assert array.ctypes.data % ALIGNMENT == raw.ctypes.data % ALIGNMENT
    tree = parse_filter('a contains "3" and odd = true and n > 20')
    assert np.flatnonzero(columns.select(tree)).tolist() == [23, 33, 43]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.text(max_size=4)), min_size=1, max_size=4))
def test_words_sort_join_and_search_as_strings_do(sets: list[set[str]]) -> None:
    parts = [Words.encode(sorted(one)) for one in sets]
    joined, places = join_words([(part, np.ones(len(part), bool)) for part in parts])
    everything = sorted(set().union(*sets))
    assert joined.take(np.ones(len(joined), bool)) == [word.encode() for word in everything]
    for one, place in zip(sets, places, strict=True):
        assert [everything[at] for at in place.tolist()] == sorted(one)
    for word in [*everything, "a", "\ud800"]:
        assert joined.find(word) == (everything.index(word) if word in everything else -1)
        assert joined.contain(word[:2]).tolist() == [word[:2] in one for one in everything]
        assert joined.position(word, "left") == sum(one < word for one in everything)
        assert joined.position(word, "right") == sum(one <= word for one in everything)
