"""Lists of 4-bit codes: deleted rows, filters, and machines that cannot open them."""

from __future__ import annotations

import dataclasses
import logging
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.index.synthetic import World
from twinlens.errors import MissingDependencyError
from twinlens.index.ann import kinds, rabitq_lists, tuner
from twinlens.index.ann.rabitq_lists import RabitqLists
from twinlens.index.collection import Collection
from twinlens.index.maintenance import (
    IndexPlan,
    check_plan,
    optimise,
    repair,
    repeat_plan,
    store_sample,
)
from twinlens.index.searching.request import SearchOptions
from twinlens.index.searching.searching import search_collection
from twinlens.index.stats import describe_segment, read_stats
from twinlens.index.vectors import rabitq_setup
from twinlens.index.vectors.arrays import Floats
from twinlens.index.vectors.rabitq_setup import rabitq_obstacle
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection
from twinlens.serving.routes.collections.lifecycle import _warn

WORLD = World()
COUNT = 6000
KIND = "ivf-rabitq4"
NO_LIBRARY = "rabitqlib is not installed: pip install 'twinlens[rabitq]'"

needs_library = pytest.mark.skipif(rabitq_obstacle() is not None, reason=str(rabitq_obstacle()))


@pytest.fixture(scope="module", autouse=True)
def _quicker_tuning() -> Iterator[None]:
    """Tune filters on fewer queries and to a recall that so few lists reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuner, "FILTERED_QUERIES", 120)
        patch.setattr(tuner, "FILTERED_TARGET", 0.9)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection with 4-bit lists; tests copy nothing and change nothing of it."""
    folder = tmp_path_factory.mktemp("built") / "c"
    create_collection(folder, dim=WORLD.dim)
    with Writer(folder) as writer:
        rows = WORLD.images(COUNT, 1)
        metadata = [{"n": n} for n in range(COUNT)]
        writer.upsert([f"i{n}" for n in range(COUNT)], rows, metadata)
        store_sample(writer, "text", WORLD.texts(600, 2), "given")
        optimise(writer, IndexPlan(KIND, 0.9))
    return folder


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    shutil.copytree(built, tmp_path / "c")
    return tmp_path / "c"


def build_lists(rows: Floats) -> RabitqLists:
    centres = rows[:: len(rows) // 40]
    owner = (rows @ centres.T).argmax(axis=1)
    return RabitqLists.build(lambda part: rows[part], centres, owner)


@needs_library
def test_deleted_rows_are_skipped_as_if_they_had_never_been_proposed() -> None:
    rows, queries = WORLD.images(3000, 1), WORLD.texts(50, 2)
    lists = build_lists(rows)
    live = np.ones(3000, bool)
    live[np.unique(lists.search(queries, 40, 8))] = False  # the nearest of all: the worst case
    found = lists.search(queries, 20, 8, live)
    same = 0
    for place, everything in enumerate(lists.search(queries, 3000, 8).tolist()):
        allowed = [row for row in everything if row >= 0 and live[row]][:20]
        assert (found[place] >= 0).sum() == len(allowed)
        same += len(set(allowed) & set(found[place].tolist()))
    assert live[found[found >= 0]].all()
    assert same >= 0.97 * (found >= 0).sum()  # the library prunes by bounds that hold almost surely


@needs_library
def test_lists_that_hold_too_few_rows_answer_with_all_of_them_and_then_nothing() -> None:
    rows = WORLD.images(3000, 1)
    lists = build_lists(rows)
    found = lists.search(rows[:5], 2000, 1)
    counts = (found >= 0).sum(axis=1)
    assert counts.max() < 2000
    for row, count in zip(found, counts, strict=True):
        assert len(set(row[:count].tolist())) == count
        assert (row[count:] == -1).all()
    live = np.zeros(3000, bool)
    live[:7] = True
    assert ((lists.search(rows[:5], 20, 40, live) >= 0).sum(axis=1) == 7).all()


@needs_library
def test_rows_keep_their_numbers_when_they_are_encoded_block_by_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rabitq_lists, "BLOCK", 700)
    rows = WORLD.images(3000, 1)
    lists = build_lists(rows)
    lists.save(tmp_path / "lists")
    for one in (lists, RabitqLists.load(tmp_path / "lists")):
        found = one.search(rows, 3, 12)
        assert (found == np.arange(3000)[:, None]).any(axis=1).mean() >= 0.99


@needs_library
def test_filtered_searches_use_the_lists_at_8_bits(built: Path) -> None:
    queries = WORLD.texts(60, 5)
    with Collection(built) as reader:
        index = reader.snapshot().parts[0].ann_index
        assert index is not None
        reader.search(queries, 10)
        opened = index.open()
        assert opened is not None
        assert "index" not in vars(opened)  # a search without a filter does not open them
        half = np.arange(COUNT) < 3000
        assert index.plan(queries, 10, half, filtered=True) is not None
        assert "index" in vars(opened)
        for text in ("n < 3000", "n >= 4000"):
            exact = reader.search(queries, 10, filter=text, exact=True)
            found = reader.search(queries, 10, filter=text)
            same = [
                len({h.id for h in a} & {h.id for h in b})
                for a, b in zip(exact, found, strict=True)
            ]
            assert sum(same) >= 0.9 * 600
            assert {len(hits) for hits in found} == {10}


@needs_library
def test_deleted_items_are_never_returned(copied: Path) -> None:
    rows = WORLD.images(COUNT, 1)
    with Writer(copied) as writer:
        gone = [hit.id for hit in writer.collection.search(rows[0], 50)[0]]
        writer.delete(gone)
        hits = writer.collection.search(rows[0], 50)[0]
        assert len(hits) == 50
        assert not {hit.id for hit in hits} & set(gone)


@needs_library
def test_a_machine_without_the_library_answers_exactly_and_says_so(
    copied: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kinds, "rabitq_obstacle", lambda: NO_LIBRARY)
    queries = WORLD.texts(20, 5)
    with Collection(copied) as reader, caplog.at_level(logging.WARNING):
        for filter in (None, "n < 3000"):
            exact = reader.search(queries, 10, filter=filter, exact=True)
            assert reader.search(queries, 10, filter=filter) == exact
        told = [record for record in caplog.records if NO_LIBRARY in record.getMessage()]
        assert len(told) == 1
        stats = read_stats(reader)
        assert stats["recall"] == {"image": 1.0, "text": 1.0}
        assert stats["exact"]
        assert stats["segments"][0]["obstacle"] == NO_LIBRARY
        assert NO_LIBRARY in str(_warn(stats))
        assert any(NO_LIBRARY in line for line in describe_segment(stats["segments"][0]))
        answer = search_collection(reader, queries[:1], SearchOptions(explain=True))
        assert answer.path["parts"][0]["path"] == "exact"
        assert answer.path["parts"][0]["because"] == NO_LIBRARY
        assert not reader.snapshot().damaged
    assert verify_collection(copied).is_sound
    with Writer(copied) as writer:
        assert repair(writer) == []  # the index is sound, for machines that can open it
        assert repeat_plan(writer.collection.snapshot()).kind == "auto"
        optimise(writer, IndexPlan("sq8", 0.9))
        assert writer.catalog.segments()[0].index is not None
        assert read_stats(writer.collection)["segments"][0]["index"] == "sq8"
    with pytest.raises(MissingDependencyError, match=r"pip install 'twinlens\[rabitq\]'"):
        check_plan(IndexPlan(KIND))


@needs_library
def test_a_kind_of_an_older_version_is_searched_exactly_until_it_is_replaced(copied: Path) -> None:
    with Writer(copied) as writer:
        row = writer.catalog.segments()[0]
        assert row.index is not None
        settings = {**row.index.settings, "asked": "ivf-rabitq"}
        old = dataclasses.replace(row.index, kind="ivf-rabitq", settings=settings)
        with writer.catalog.writing(new_generation=True) as transaction:
            transaction.insert_segment(dataclasses.replace(row, index=old))
    queries = WORLD.texts(20, 5)
    with Writer(copied) as writer:
        reader = writer.collection
        assert reader.search(queries, 10) == reader.search(queries, 10, exact=True)
        assert (
            "does not know the kind 'ivf-rabitq'" in read_stats(reader)["segments"][0]["obstacle"]
        )
        assert repair(writer) == []
        plan = repeat_plan(reader.snapshot())
        assert plan == IndexPlan("auto", 0.9)
        optimise(writer, plan)
        assert read_stats(reader)["segments"][0]["index"] == "exact"


@needs_library
@pytest.mark.parametrize("name", ["index.faiss", "lists.rabitq"])
def test_damage_to_either_file_is_found_before_it_is_searched(copied: Path, name: str) -> None:
    path = next(copied.glob(f"idx-*/{name}"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    assert len(verify_collection(copied).index_faults) == 1
    queries = WORLD.texts(20, 5)
    with Collection(copied) as reader:
        for filter in (None, "n < 3000"):
            exact = reader.search(queries, 10, filter=filter, exact=True)
            found = reader.search(queries, 10, filter=filter)
            if filter or name == "lists.rabitq":
                assert found == exact
        assert "damaged" in read_stats(reader)["segments"][0]["damage"]
    with Writer(copied) as writer:
        assert repair(writer) == [path.parent.name]
    assert verify_collection(copied).is_sound


def test_the_obstacle_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for flags, expected in (("sse2 avx fma", False), ("avx avx2 fma sse2", True)):
        cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
        assert rabitq_setup.runs_avx2(cpuinfo) is expected
    ask = rabitq_obstacle.__wrapped__
    monkeypatch.setattr(rabitq_setup, "runs_avx2", lambda: False)
    assert "AVX2" in str(ask())
    monkeypatch.setattr(rabitq_setup, "runs_avx2", lambda: True)
    monkeypatch.setitem(sys.modules, "rabitqlib", None)
    assert ask() == NO_LIBRARY


def test_the_mean_of_each_list_is_found_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabitq_lists, "BLOCK", 7)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 3)).astype(np.float32)
    lists = rng.permutation(np.resize([0, 1, 3], 50)).astype(np.int32)
    centres = np.full((4, 3), 9, np.float32)
    means = rabitq_lists.find_means(lambda part: rows[part], centres, lists)
    for number in (0, 1, 3):
        np.testing.assert_allclose(means[number], rows[lists == number].mean(axis=0), atol=1e-6)
    assert (means[2] == 9).all()  # no row


@needs_library
def test_rows_are_encoded_by_means_and_not_by_centres_of_length_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((8, 64)).astype(np.float32)
    centres = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    lists = rng.integers(0, 8, 4000).astype(np.int32)
    rows = (0.3 * centres[lists] + 0.05 * rng.standard_normal((4000, 64))).astype(np.float32)
    queries = rng.standard_normal((100, 64)).astype(np.float32)
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :10]

    def measure() -> float:
        found = RabitqLists.build(lambda part: rows[part], centres, lists).search(queries, 10, 8)
        shares = [len({*a} & {*b}) / 10 for a, b in zip(found, truth, strict=True)]
        return float(np.mean(shares))

    by_means = measure()
    monkeypatch.setattr(rabitq_lists, "find_means", lambda block, centres, lists: centres)
    assert by_means > measure() + 0.02
