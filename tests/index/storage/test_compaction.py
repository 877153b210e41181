"""Compaction rewrites what is worth it, within a bound; what it writes holds the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.bundle.arrays import Rows
from twinlens.index import maintenance
from twinlens.index.ann import policy
from twinlens.index.collection import Collection
from twinlens.index.storage import compaction
from twinlens.index.storage.compaction import (
    DEAD_SHARE,
    OUTSIDE_SHARE,
    SEGMENT_ROWS,
    SegmentState,
    has_many_dead,
    plan_merges,
)
from twinlens.index.storage.durable import FileRecord
from twinlens.index.storage.item_file import ITEMS_NAME
from twinlens.index.storage.records import IndexRow, SegmentRow
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

Make = Callable[[int], Rows]
INDEX = IndexRow("idx", "ivf-sq8", {}, {}, {})
FILES = {ITEMS_NAME: FileRecord(0, "")}


def state(name: str, rows: int, live: int | None = None, indexed: bool = True) -> SegmentState:
    row = SegmentRow(name, rows, FILES, INDEX if indexed else None)
    return SegmentState(row, rows if live is None else live)


def names(plan: list[list[SegmentRow]]) -> list[list[str]]:
    return [[row.name for row in group] for group in plan]


@pytest.mark.parametrize(
    ("states", "plan"),
    [
        ([state("a", 10_000_000, 9_900_000)], []),  # one of a hundred
        ([state("a", 1_000_000, 799_999)], [["a"]]),
        ([state("a", 1_000_000), state("b", 8192)], []),  # a few new rows beside many
        ([state("a", 1_000_000), state("b", 400_000)], [["b", "a"]]),
        ([state("a", 100), state("b", 60_000, indexed=False)], [["a", "b"]]),
        ([state("a", 60_000, 59_999, indexed=False)], [["a"]]),
        ([state("a", 60_000, 59_999)], []),
        ([state("a", 3_000_000), state("b", 3_000_000)], []),  # too large together
        ([state("a", 0, 0)], []),
        ([state("a", 1_000_000, 0)], [["a"]]),
    ],
)
def test_segments_are_written_anew_where_it_is_worth_it(
    states: list[SegmentState], plan: list[list[str]]
) -> None:
    assert names(plan_merges(states)) == plan


def test_ten_million_rows_of_many_batches_become_three_segments() -> None:
    states = [state(f"s{n:02}", 400_000, indexed=False) for n in range(25)]
    sizes = [sum(row.rows for row in group) for group in plan_merges(states)]
    assert sizes == [4_000_000, 4_000_000, 2_000_000]


def test_a_full_compaction_leaves_no_deleted_row_and_few_segments() -> None:
    def plan(*states: SegmentState) -> list[list[str]]:
        return names(plan_merges(states, full=True))

    assert plan(state("a", 10**6, 10**6 - 1)) == [["a"]]
    assert plan(state("a", 5), state("b", 10**6)) == [["a", "b"]]
    assert plan(state("a", 10**6)) == plan() == []
    older = SegmentState(SegmentRow("a", 10**6, {}, INDEX), 10**6)  # its items are not in a file
    assert plan(older) == [["a"]]
    assert plan_merges([older]) == []
    assert plan(state("a", SEGMENT_ROWS), state("b", 2)) == []
    assert plan(state("a", SEGMENT_ROWS + 1)) == [["a"]]
    assert plan(state("a", 2), state("b", 3_000_000), state("c", 3_000_001)) == [["a", "b"]]


_STATES = st.lists(
    st.tuples(st.integers(1, 2 * SEGMENT_ROWS), st.floats(0, 1), st.booleans()), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(drawn=_STATES)
def test_what_a_compaction_writes_is_bounded(drawn: list[tuple[int, float, bool]]) -> None:
    """Four rows for each deleted one; a joined segment grows by a third; small ones are exempt."""
    states = {
        f"s{number}": state(f"s{number}", rows, int(rows * share), indexed)
        for number, (rows, share, indexed) in enumerate(drawn)
    }
    plan = names(plan_merges(list(states.values())))
    moved = [name for group in plan for name in group]
    assert len(moved) == len(set(moved))
    for group in plan:
        members = [states[name] for name in group]
        if len(group) == 1 and not members[0].is_cheap:
            assert members[0].live <= (1 / DEAD_SHARE - 1) * members[0].dead
        total = members[0].live
        for one in members[1:]:
            assert one.is_cheap or one.live <= (1 / OUTSIDE_SHARE - 1) * total
            total += one.live
        assert len(group) == 1 or total <= SEGMENT_ROWS
    written = [
        state(f"w{number}", sum(states[name].live for name in group))
        for number, group in enumerate(plan)
        if sum(states[name].live for name in group) <= SEGMENT_ROWS
    ]
    assert not any(has_many_dead(one) for one in written)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten rows be few and a hundred a full segment."""
    monkeypatch.setattr(compaction, "SMALL_ROWS", 10)
    monkeypatch.setattr(compaction, "SEGMENT_ROWS", 100)


def fill(writer: Writer, table: Rows, start: int = 0) -> list[str]:
    ids = [f"i{n:03}" for n in range(start, start + len(table))]
    told = [{"n": n, "name": name, "tags": ["x", name]} for n, name in enumerate(ids, start)]
    writer.upsert(ids, table, told)
    return ids


def check(writer: Writer, table: Rows, gone: set[int]) -> None:
    """Every row is found by its embedding and by its metadata, deleted ones by neither."""
    collection = writer.collection
    assert collection.count() == len(table) - len(gone)
    for number in range(0, len(table), 7):
        hits = collection.search(table[number], 1, filter=f'name = "i{number:03}"')[0]
        assert [hit.id for hit in hits] == ([] if number in gone else [f"i{number:03}"])
        assert collection.count(f'tags = "i{number:03}" and n = {number}') == len(hits)
    assert collection.count('tags = "x"') == len(table) - len(gone)


@pytest.mark.usefixtures("small")
def test_a_few_deletions_rewrite_nothing_and_many_only_their_segment(
    folder: Path, rows: Make
) -> None:
    table = rows(180)
    with Writer(folder, seal_rows=20) as writer:
        fill(writer, table[:90])
        fill(writer, table[90:], 90)
        first, second = (row.name for row in writer.catalog.segments())
        writer.delete(["i001"])
        writer.compact()
        assert [row.name for row in writer.catalog.segments()] == [first, second]
        check(writer, table, {1})
        gone = {1, *range(100, 130)}
        writer.delete([f"i{n:03}" for n in range(100, 130)])
        writer.compact()
        left, new = writer.catalog.segments()
        assert (left.name, new.rows) == (first, 60)
        assert writer.catalog.tombstones()[1].tolist() == [2]
        check(writer, table, gone)
        writer.compact(full=True)
        assert sorted(row.rows for row in writer.catalog.segments()) == [60, 89]
        assert not len(writer.catalog.tombstones()[0])
        check(writer, table, gone)
    assert verify_collection(folder).is_sound


@pytest.mark.usefixtures("small")
def test_a_segment_larger_than_the_limit_is_written_as_several(folder: Path, rows: Make) -> None:
    table = rows(250)
    with Writer(folder, seal_rows=300) as writer:
        fill(writer, table)
        writer.seal()
        writer.compact(full=True)
        assert [row.rows for row in writer.catalog.segments()] == [83, 84, 83]
        check(writer, table, set())


@pytest.mark.usefixtures("small")
def test_rows_of_segments_whose_rids_interleave_are_joined_in_order(
    folder: Path, rows: Make
) -> None:
    table = rows(60)
    with Writer(folder, seal_rows=15) as writer:
        fill(writer, table[:20])
        fill(writer, table[20:40], 20)
        writer.upsert(["i005"], table[5:6], [{"n": 5, "name": "i005", "tags": ["x", "i005"]}])
        fill(writer, table[40:], 40)
        writer.compact(full=True)
        (row,) = writer.catalog.segments()
        rids = writer.collection.snapshot().parts[0].segment.rids
        assert row.rows == 60
        assert np.all(np.diff(rids) > 0)
        check(writer, table, set())


@pytest.mark.usefixtures("small")
def test_tombstones_of_rows_that_were_never_in_a_segment_are_forgotten(
    folder: Path, rows: Make
) -> None:
    table = rows(5)
    with Writer(folder, seal_rows=50) as writer:
        for _ in range(4):
            fill(writer, table)
        assert len(writer.catalog.tombstones()[0]) == 15
        writer.seal()
        fill(writer, table)
        writer.compact()
        assert not len(writer.catalog.tombstones()[0])


def test_a_reader_follows_a_compaction_of_one_segment(tmp_path: Path, rows: Make) -> None:
    create_collection(tmp_path / "c", dim=16)
    table = rows(100)
    with Writer(tmp_path / "c", seal_rows=30) as writer:
        fill(writer, table)
        with Collection(tmp_path / "c") as reader:
            assert reader.count() == 100
            writer.delete([f"i{n:03}" for n in range(50)])
            writer.compact()
            reader.refresh()
            assert reader.count() == 50
            assert reader.search(table[70], 1)[0][0].id == "i070"


@pytest.mark.usefixtures("small")
def test_segments_share_the_memory_for_codes(
    folder: Path, rows: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(policy, "EXACT_ROWS", 1)
    monkeypatch.setattr(maintenance, "MIN_ROWS", 20)
    monkeypatch.setattr(maintenance, "build_index", lambda root, part, kind, *_: tried.append(kind))
    with Writer(folder, seal_rows=50) as writer:
        fill(writer, rows(90))
        fill(writer, rows(90), 90)
        both = 180 * 16  # bytes of codes of both segments
        maintenance.optimise(writer, maintenance.IndexPlan(memory=both))
        assert set(tried) == {"sq8"}
        tried.clear()
        maintenance.optimise(writer, maintenance.IndexPlan(memory=both - 20))
        assert "sq8" not in tried
        assert len(tried) >= 2  # kinds for codes that do not fit, for each segment
