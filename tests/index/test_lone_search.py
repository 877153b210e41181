"""The short way of a lone query gives the hits of the long way, where it may be taken at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.index.synthetic import World
from twinlens.bundle.arrays import Rows
from twinlens.errors import CollectionError
from twinlens.index.ann import tuner
from twinlens.index.collection import Collection
from twinlens.index.hits import HitLists
from twinlens.index.lone_search import LoneSearch
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.storage.item_file import ITEMS_NAME
from twinlens.index.vectors import native_rescoring
from twinlens.index.vectors.native_rescoring import MOST
from twinlens.index.writer import Writer, create_collection

ROWS = 5000
WORLD = World(dim=64)
KINDS = ("ivf-rabitq4", "ivf-sq8", "hnsw")


@pytest.fixture(scope="module", autouse=True)
def quick_tuning() -> Iterator[None]:
    """Skip the tuning for filters, which no test here uses."""
    if native_rescoring.load_library() is None:
        pytest.skip("the package was built without the library")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuner, "_tune_filters", lambda *_: iter(()))
        yield


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection with an index; some rows are equal."""
    folder: Path = tmp_path_factory.mktemp("built") / "c"
    create_collection(folder, dim=WORLD.dim)
    rows = WORLD.images(ROWS, 1)
    rows[100:130] = rows[100]
    with Writer(folder) as writer:
        writer.upsert([f"i{n}" for n in range(ROWS)], rows, [{"n": n} for n in range(ROWS)])
        writer.compact()
        optimise(writer, IndexPlan(request.param))
        assert writer.catalog.segments()[0].index is not None
    return folder


@pytest.fixture
def collection(built: Path) -> Iterator[Collection]:
    with Collection(built) as opened:
        opened.warm()
        yield opened


def search_long(collection: Collection, query: Rows, k: int) -> HitLists:
    """Return the hits of the long way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoneSearch, "search", lambda *_: None)
        return collection.search(query, k)


def is_short(collection: Collection, query: Rows, k: int = 10) -> bool:
    """Return whether a query takes the short way."""
    found: list[HitLists | None] = []
    known = LoneSearch.search

    def spy(self: LoneSearch, query: Rows, k: int, threshold: float | None) -> HitLists | None:
        found.append(known(self, query, k, threshold))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoneSearch, "search", spy)
        collection.search(query, k)
    return found[0] is not None


def assert_same(short: HitLists, long: HitLists) -> None:
    assert [hit.id for hit in short[0]] == [hit.id for hit in long[0]]
    assert [hit.metadata for hit in short[0]] == [hit.metadata for hit in long[0]]
    assert [hit.score for hit in short[0]] == pytest.approx([hit.score for hit in long[0]])


@pytest.mark.parametrize("k", [1, 10, MOST, MOST + 1])
def test_both_ways_find_the_same(collection: Collection, k: int) -> None:
    queries = np.concatenate([WORLD.texts(20, 3), WORLD.images(20, 4), WORLD.images(102, 1)[98:]])
    for query in queries:
        assert_same(collection.search(query, k), search_long(collection, query, k))
        assert is_short(collection, query, k) == (k <= MOST)


def test_a_threshold_drops_what_scores_below(collection: Collection) -> None:
    query = WORLD.texts(1, 3)[0]
    scores = [hit.score for hit in collection.search(query, 10)[0]]
    hits = collection.search(query, 10, threshold=scores[4])[0]
    assert [hit.score for hit in hits] == [score for score in scores if score >= scores[4]]


def test_unchecked_bytes_are_never_answered_from(built: Path) -> None:
    query = WORLD.texts(1, 3)[0]
    with Collection(built) as opened:
        assert not is_short(opened, query)
        opened.warm()
        assert is_short(opened, query)


def test_damage_is_told(built: Path) -> None:
    (path,) = built.glob(f"seg-*/{ITEMS_NAME}")
    sound = path.read_bytes()
    try:
        path.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
        with Collection(built) as opened:
            with pytest.raises(CollectionError, match="damaged"):
                opened.warm()
            assert not is_short(opened, WORLD.texts(1, 3)[0])
    finally:
        path.write_bytes(sound)


def test_writes_are_seen_at_once(tmp_path: Path) -> None:
    create_collection(tmp_path / "c", dim=WORLD.dim)
    rows = WORLD.images(2 * ROWS, 1)
    query = rows[7]
    with Writer(tmp_path / "c") as writer:
        writer.upsert([f"i{n}" for n in range(ROWS)], rows[:ROWS])
        writer.compact()
        optimise(writer, IndexPlan("ivf-sq8"))
        with Collection(tmp_path / "c") as reader:
            reader.warm()
            first = reader.search(query, 5)[0]
            assert first[0].id == "i7" and is_short(reader, query)
            writer.delete(["i7"])
            left = reader.search(query, 5)[0]
            assert [hit.id for hit in left][:4] == [hit.id for hit in first][1:]
            assert is_short(reader, query)  # few deletions change no parameters
            writer.upsert(["new"], query[None])
            assert reader.search(query, 5)[0][0].id == "new"
            assert not is_short(reader, query)


def test_segments_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_collection(tmp_path / "c", dim=WORLD.dim)
    rows = WORLD.images(2 * ROWS, 1)
    rows[ROWS : ROWS + 50] = rows[:50]  # equal rows in both
    with Writer(tmp_path / "c", seal_rows=ROWS) as writer:
        for start in (0, ROWS):
            names = [f"i{n}" for n in range(start, start + ROWS)]
            writer.upsert(names, rows[start : start + ROWS])
        monkeypatch.setattr(writer, "needs_compaction", lambda: False)
        optimise(writer, IndexPlan("ivf-sq8"))
        assert len(writer.catalog.segments()) == 2
        writer.collection.warm()
        for query in rows[:60]:
            assert is_short(writer.collection, query)
            hits = writer.collection.search(query, 10)
            assert_same(hits, search_long(writer.collection, query, 10))
