"""What every place that keeps a collection must do alike: a folder, and each vector store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.index.query.test_filters import DRAWN_ITEMS, ITEMS, PHOTOS, TREES
from tests.index.stores.conftest import Keeper
from tests.index.stores.places import DIM
from twinlens.bundle.arrays import Rows
from twinlens.errors import ConflictError, InputError, NotFoundError
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.filters import matches
from twinlens.index.searching.request import SearchOptions
from twinlens.index.searching.searching import search_collection
from twinlens.index.stats import read_stats, report_recall
from twinlens.index.upkeep.listing import list_items
from twinlens.index.upkeep.metadata_update import update_metadata
from twinlens.index.upkeep.removal import remove_matching
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]


def test_an_upserted_item_is_found_at_once(writer: Writer, rows: Make) -> None:
    table = rows(5)
    assert writer.upsert(list("abcde"), table, [{"n": n} for n in range(5)]) == 5
    hits = writer.collection.search(table[2], k=3)[0]
    assert hits[0].id == "c"
    assert hits[0].metadata == {"n": 2}
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("count", [10, 60, 500])
def test_a_second_reader_sees_what_a_writer_commits(
    keeper: Keeper, writer: Writer, rows: Make, count: int
) -> None:
    with keeper.open_reader() as reader:
        table = rows(count)
        writer.upsert([f"i{n}" for n in range(count)], table)
        reader.refresh()
        assert len(reader) == reader.count() == count
        assert reader.search(table[-1], k=1)[0][0].id == f"i{count - 1}"
        writer.delete([f"i{count - 1}"])
        assert reader.search(table[-1], k=1)[0][0].id != f"i{count - 1}"


def test_upsert_replaces_and_the_last_of_equal_ids_is_used(writer: Writer, rows: Make) -> None:
    table = rows(4)
    writer.upsert(["a", "b"], table[:2])
    assert writer.upsert(["a", "c", "a"], table[[2, 3, 3]]) == 2
    assert writer.collection.count() == 3
    np.testing.assert_allclose(writer.collection.embedding("a"), table[3], atol=1e-3)


def test_a_filter_returns_exactly_the_matches(writer: Writer, rows: Make) -> None:
    table = rows(120)
    writer.upsert([str(n) for n in range(100)], table[:100], [{"n": n} for n in range(100)])
    writer.upsert(
        [str(n) for n in range(100, 120)], table[100:], [{"n": n} for n in range(100, 120)]
    )
    hits = writer.collection.search(table[0], k=10, filter="n >= 98 and n < 103")[0]
    assert {hit.id for hit in hits} == {"98", "99", "100", "101", "102"}
    assert writer.collection.search(table[0], k=3, filter="n >= 90")[0][0].metadata["n"] >= 90
    assert writer.collection.search(table[0], k=3, filter="n > 1000") == [[]]


def test_a_threshold_drops_lower_scores(writer: Writer, rows: Make) -> None:
    table = rows(40)
    writer.upsert([str(n) for n in range(40)], table)
    scores = (table @ table[0])[1:]
    hits = writer.collection.search(table[0], k=40, threshold=0.2)[0]
    assert len(hits) == 1 + int((scores >= 0.2).sum())
    assert all(hit.score >= 0.2 for hit in hits)


def test_a_batch_of_queries_answers_as_each_alone(writer: Writer, rows: Make) -> None:
    table = rows(130)
    writer.upsert([str(n) for n in range(130)], table)
    together = writer.collection.search(table[:7], k=5)
    for query, hits in zip(table[:7], together, strict=True):
        assert [hit.id for hit in writer.collection.search(query, k=5)[0]] == [h.id for h in hits]


def test_an_empty_collection_returns_no_hits(writer: Writer, rows: Make) -> None:
    assert writer.collection.search(rows(2), k=5) == [[], []]
    assert writer.collection.count() == 0
    writer.compact()


def test_a_misspelt_field_of_a_filter_is_told_with_the_fields_there_are(
    writer: Writer, rows: Make
) -> None:
    writer.collection.require_fields("lable = 1")  # nothing is there: any field may come
    writer.upsert([str(n) for n in range(60)], rows(60), [{"label": 1, "a": {"b": 1}}] * 60)
    writer.upsert(["late"], rows(1), [{"year": 2020}])
    for text in ("label = 1", "a.b = 2 or year > 2000", "not has draft"):
        writer.collection.require_fields(text)
    with pytest.raises(
        InputError, match=r"field 'lable' or 'yaer'; the fields are: a\.b, label, y"
    ):
        writer.collection.require_fields("lable = 1 and not (yaer < 3 or year = 1)")


def test_another_bundle_is_refused_by_revision(keeper: Keeper) -> None:
    with keeper.open_reader() as reader:
        reader.require_bundle("r1")
        with pytest.raises(ConflictError, match="'fake' revision r1") as caught:
            reader.require_bundle("r2")
    assert caught.value.code == "bundle_mismatch"


def test_a_write_by_another_bundle_changes_nothing(writer: Writer, rows: Make) -> None:
    with pytest.raises(ConflictError, match="'fake' revision r1"):
        writer.upsert(["a"], rows(1), revision="r2")
    with pytest.raises(ConflictError, match="'fake' revision r1"):
        writer.collection.search(rows(1), revision="r2")
    assert writer.collection.count() == 0


FILTERS = [
    'label = "cat"', 'label != "cat"', 'not label = "cat"', "year >= 2020", 'year >= "2020"',
    'year > "2019" or year < 2020', 'tags in ("a", "z")', 'tags not in ("a")', "tags = 3",
    "ok = true", "ok != true", "ok = 1", "has ok", "has tags", "size.w > 15",
    'label contains "cat"', 'label < "b"', "missing != 1", "not missing = 1",
    'taken between "2024-05" and "2024-05-31"', "near (48.8566, 2.3522, 343)",
    "not near (48.8566, 2.3522, 345)", "near (-17.7, -179.9, 250)", "within (-20, 170, -10, -170)",
    'label contains "100%_"', 'label contains "\\\\"', 'label contains "\'"', "note = 2.5",
    'label contains "_"', 'label contains "%"', 'words contains "ab"', 'words contains "b"',
]  # fmt: skip
ODD: list[dict[str, Any]] = [
    {"label": "100%_ sure", "words": ["xa", "by"]},
    {"label": "1000 sure", "words": ["ab", "c"], "note": 2.5},
    {"label": 'a \\ and a "quote"', "a.b": {"c": True}, "note": [1e300, -2.5, 2]},
    {"label": "it's", "words": "\u00e9\U0001f600"},
]


def test_filters_choose_what_they_choose_of_single_items(writer: Writer, rows: Make) -> None:
    items = [*ITEMS, *PHOTOS, *ODD]
    names = [f"i{n}" for n in range(len(items))]
    table = rows(len(items))
    writer.upsert(names, table, items)
    for text in FILTERS:
        tree = parse_filter(text)
        wanted = {name for name, one in zip(names, items, strict=True) if matches(tree, one)}
        hits = writer.collection.search(table[0], k=len(items), filter=tree)[0]
        assert ({hit.id for hit in hits}, text) == (wanted, text)
        assert (writer.collection.count(tree), text) == (len(wanted), text)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_drawn_filters_choose_what_they_choose_of_single_items(
    writer: Writer, rows: Make, data: st.DataObject
) -> None:
    items = data.draw(st.lists(DRAWN_ITEMS, min_size=1, max_size=6))
    trees = data.draw(st.lists(TREES, min_size=1, max_size=6))
    names = [f"i{n}" for n in range(len(items))]
    writer.delete([f"i{n}" for n in range(6)])
    writer.upsert(names, rows(len(items)), items)
    for tree in trees:
        wanted = {name for name, one in zip(names, items, strict=True) if matches(tree, one)}
        found = {item.id for item in list_items(writer.collection, filter=tree)}
        assert (found, tree) == (wanted, tree)


def test_metadata_and_ids_come_back_as_they_were(
    keeper: Keeper, writer: Writer, rows: Make
) -> None:
    odd = {'z "1"': [1, None, {"q": 2.5}], "a": "\u00e9\U0001f600'", "n": 12345678901234567}
    names = ["it's", 'a "b" \\ c', "\u00e9/\U0001f600", "x" * 4096]
    writer.upsert(names, rows(4), [odd] * 4, ["v1-x"] * 4)
    with keeper.open_reader() as reader:
        for name in names:
            item = reader.get(name)
            assert (item.id, item.metadata, item.version) == (name, odd, "v1-x")
        assert writer.delete([*names, "nobody"]) == 4
        with pytest.raises(NotFoundError):
            reader.get("it's")


def test_a_page_lists_items_in_the_order_of_writing(writer: Writer, rows: Make) -> None:
    for n in range(5):
        writer.upsert([f"i{n}"], rows(1), [{"n": n}])
    writer.upsert(["i1"], rows(1), [{"n": 1}])
    order = ["i0", "i2", "i3", "i4", "i1"]
    listed = list(list_items(writer.collection))
    assert [item.id for item in listed] == order
    again = list_items(writer.collection, after=listed[1].rid, limit=2)
    assert [item.id for item in again] == ["i3", "i4"]
    some = list_items(writer.collection, filter="n >= 2", offset=1)
    assert [item.id for item in some] == ["i3", "i4"]


def test_metadata_changes_and_embeddings_stay(writer: Writer, rows: Make) -> None:
    table = rows(3)
    writer.upsert(list("abc"), table, [{"n": n, "old": True} for n in range(3)])
    assert update_metadata(writer, {"b": {"old": None, "new": 1}, "x": {}}) == ["x"]
    hit = writer.collection.search(table[1], k=1, filter="new = 1")[0][0]
    assert (hit.id, hit.metadata) == ("b", {"n": 1, "new": 1})
    np.testing.assert_allclose(writer.collection.embedding("b"), table[1], atol=1e-3)


def test_items_are_removed_by_a_filter_and_a_limit(writer: Writer, rows: Make) -> None:
    writer.upsert([str(n) for n in range(40)], rows(40), [{"n": n} for n in range(40)])
    with pytest.raises(InputError, match="30 of 40 items match"):
        remove_matching(writer, "n >= 10", "20%")
    assert writer.collection.count() == 40
    assert remove_matching(writer, "n >= 10", "100%") == 30
    assert writer.collection.count() == len(writer.collection) == 10


def test_a_grouped_search_and_the_options_of_a_search_work(writer: Writer, rows: Make) -> None:
    table = rows(6)
    table[1] = table[0]
    writer.upsert(list("abcdef"), table, [{"kind": n // 2} for n in range(6)])
    grouped = writer.collection.search_grouped(table[0], k=6)
    assert {grouped[0].id, *grouped[0].duplicates} == {"a", "b"} and len(grouped) == 5
    options = SearchOptions(k=3, one_per="kind", diversity=0.2, revision="r1")
    answer = search_collection(writer.collection, table[0], options)
    assert sorted(hit.metadata["kind"] for hit in answer.hits) == [0, 1, 2]
    plain = writer.collection.search(table[0], k=6)[0]
    offset = search_collection(writer.collection, table[0], SearchOptions(k=2, offset=3))
    assert [hit.id for hit in offset.hits] == [hit.id for hit in plain[3:5]]


def test_statistics_tell_count_bundle_and_recall(writer: Writer, rows: Make) -> None:
    writer.upsert(list("abc"), rows(3), [{"n": 1}] * 3)
    writer.collection.refresh()
    told = read_stats(writer.collection)
    assert (told["count"], told["dim"], told["exact"]) == (3, DIM, True)
    assert told["bundle"]["revision"] == "r1"
    assert told["recall"] == {"image": 1.0, "text": 1.0}
    assert report_recall(writer.collection.snapshot())["text"].low == 1.0
