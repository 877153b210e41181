"""Collections and hits print as something that people read, in terminals and in notebooks."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

from twinlens.bundle.arrays import Rows
from twinlens.index.collection import Collection
from twinlens.index.hits import SHOWN, Hit, HitLists, Hits
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]


def test_a_collection_says_what_it_holds(folder: Path, writer: Writer, rows: Make) -> None:
    writer.upsert(list("abc"), rows(3))
    with Collection(folder) as collection:
        assert re.fullmatch(r"Collection\('.*': 3 items of '.+'\)", repr(collection))
        found = collection.search(rows(3)[0], k=2)
        assert found == [found[0]] and isinstance(found, list)
        assert repr(found) == repr(found[0])
        assert [line.split()[1] for line in repr(found).splitlines()] == [h.id for h in found[0]]
        assert isinstance(collection.search_grouped(rows(3)[0], k=2), Hits)


def test_a_notebook_shows_pictures_and_no_markup_of_ids(
    tmp_path: Path, squares: dict[str, bytes]
) -> None:
    (tmp_path / "red.png").write_bytes(squares["red"])
    hits = Hits(
        [Hit("<b>red</b>", 0.5, {"path": str(tmp_path / "red.png")}), Hit("none", 0.25, {})]
    )
    shown = hits._repr_html_()
    (picture,) = re.findall(r"base64,([^\"]+)", shown)
    assert base64.b64decode(picture)[8:12] == b"WEBP"
    assert "&lt;b&gt;red" in shown and "<b>red" not in shown
    assert "0.500" in shown and "none" in shown


def test_long_lists_and_several_queries_are_told_apart() -> None:
    many = [Hit(str(i), 1.0, {}) for i in range(SHOWN + 3)]
    assert "and 3 more" in Hits(many)._repr_html_()
    both = HitLists([many[:1], []])
    assert repr(both) == "query 0:\n1.0000  0\nquery 1:\nno hits"
    assert both._repr_html_().count("<h4>") == 2
