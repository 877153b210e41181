"""Items are deleted by a filter, within a limit, and without touching newer versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.index.upkeep.removal import remove_matching
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]


def fill(writer: Writer, rows: Make) -> None:
    writer.upsert([f"i{n}" for n in range(100)], rows(100), [{"n": n} for n in range(100)])


def test_exactly_the_matches_go(writer: Writer, rows: Make) -> None:
    fill(writer, rows)
    writer.upsert(["i1"], rows(1), [{"n": 1000}])
    assert remove_matching(writer, "n < 10") == 9
    assert writer.collection.count() == 91
    assert writer.collection.get("i1").metadata == {"n": 1000}
    assert remove_matching(writer, "n < 10") == 0


def test_the_limit_is_a_fifth_unless_another_is_given(writer: Writer, rows: Make) -> None:
    fill(writer, rows)
    with pytest.raises(InputError, match="pass --max-delete 30") as told:
        remove_matching(writer, "n < 30")
    assert "at most 20 may be deleted" in told.value.message
    assert writer.collection.count() == 100
    assert remove_matching(writer, "n < 30", "30") == 30
