"""Items are listed page by page, in an order that additions and deletions do not change."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.index.upkeep.listing import list_items
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]


@pytest.fixture
def filled(writer: Writer, rows: Make) -> Writer:
    """Items in a segment, in the delta, and some deleted."""
    names = [f"i{n}" for n in range(90)]
    writer.upsert(names[:60], rows(60), [{"n": n} for n in range(60)])
    writer.upsert(names[60:], rows(30), [{"n": n} for n in range(60, 90)])
    writer.delete(["i3", "i70"])
    return writer


def list_ids(writer: Writer, **options: object) -> list[str]:
    return [item.id for item in list_items(writer.collection, **options)]  # type: ignore[arg-type]


def test_pages_join_to_the_whole(filled: Writer) -> None:
    whole = list_ids(filled)
    assert whole == [f"i{n}" for n in range(90) if n not in (3, 70)]
    pages = [list_ids(filled, offset=at, limit=7) for at in range(0, 91, 7)]
    assert [name for page in pages for name in page] == whole
    odd = [name for name in whole if int(name[1:]) >= 50]
    assert list_ids(filled, filter="n >= 50") == odd
    assert list_ids(filled, filter="n >= 50", offset=5, limit=20) == odd[5:25]


def test_a_scroll_misses_nothing_while_items_come_and_go(filled: Writer, rows: Make) -> None:
    whole, seen, after = list_ids(filled), [], 0
    while page := list(list_items(filled.collection, after=after, limit=9)):
        seen += [item.id for item in page]
        after = page[-1].rid
        filled.delete([seen[0]])
        if len(seen) < 40:
            filled.upsert([f"new{len(seen)}"], rows(1))
    assert [name for name in seen if name.startswith("i")] == whole
    assert len(seen) == len(set(seen)) == len(whole) + 4


def test_a_filter_and_a_place_scroll_together(filled: Writer) -> None:
    first = list(list_items(filled.collection, filter="n >= 50", limit=20))
    rest = list_ids(filled, filter="n >= 50", after=first[-1].rid)
    assert [item.id for item in first] + rest == list_ids(filled, filter="n >= 50")


@pytest.mark.parametrize("options", [{"limit": 0}, {"offset": -1}])
def test_an_invalid_page_is_refused(filled: Writer, options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="a page has at least 1 item"):
        list_ids(filled, **options)
