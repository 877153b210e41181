"""A store's index: its effort is chosen, and its recall measured, on the store itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.index.stores.conftest import Keeper
from tests.index.stores.memory_store import MemoryStore, Shelf
from tests.index.stores.places import find_opener, make_head
from tests.index.synthetic import World
from twinlens.index.ann.recall import MEASURED, NOT_MEASURED, STALE
from twinlens.index.stats import measured_recall, report_recall
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.stores.store_tuning import tune_store
from twinlens.index.stores.store_writer import StoreWriter

WORLD = World(dim=16, concepts=100)


def fill(collection: StoreCollection, count: int) -> StoreWriter:
    writer = StoreWriter(collection)
    rows = WORLD.images(count, 0)
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        writer.upsert([f"i{n}" for n in range(count)][part], rows[part])
    return writer


@pytest.mark.parametrize(("target", "effort", "low"), [(0.5, 1, 0.8), (0.95, 10, 1.0)])
def test_the_first_effort_that_reaches_the_target_is_taken(
    tmp_path: Path, target: float, effort: int, low: float
) -> None:
    collection = StoreCollection(MemoryStore(Shelf(make_head())), tmp_path)
    fill(collection, 600)
    assert measured_recall(collection.snapshot()) == {"image": 1.0, "text": 1.0}  # all compared
    tuning = tune_store(collection, WORLD.texts(100, 1), target)
    assert tuning["effort"] == effort
    told = measured_recall(collection.snapshot())
    for recall in told.values():
        assert recall is not None
        assert low <= recall <= 0.99 if effort == 1 else recall == low
    assert collection.snapshot().effort(exact=False) == effort
    assert collection.snapshot().effort(exact=True) is None


def test_without_texts_only_images_are_measured_and_many_changes_make_that_stale(
    tmp_path: Path,
) -> None:
    collection = StoreCollection(MemoryStore(Shelf(make_head())), tmp_path)
    writer = fill(collection, 600)
    tune_store(collection, None, 0.9)
    report = report_recall(collection.snapshot())
    assert (report["image"].state, report["text"].state) == (MEASURED, NOT_MEASURED)
    writer.delete([f"i{n}" for n in range(50)])
    assert report_recall(collection.snapshot())["image"].state == MEASURED
    writer.delete([f"i{n}" for n in range(50, 70)])
    assert report_recall(collection.snapshot())["image"].state == STALE


@pytest.mark.scale
@pytest.mark.parametrize("kind", ["postgres", "milvus"])
def test_a_real_store_tells_a_recall_that_other_queries_find_true(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    collection = StoreCollection(find_opener(kind, request, tmp_path)(), tmp_path)
    fill(collection, 6000)
    tune_store(collection, WORLD.texts(200, 1), 0.95)
    told = measured_recall(collection.snapshot())["text"]
    asked = WORLD.texts(200, 2)
    found = collection.search(asked, 10)
    truth = collection.search(asked, 10, exact=True)
    shares = [
        len({hit.id for hit in a} & {hit.id for hit in b}) / 10
        for a, b in zip(found, truth, strict=True)
    ]
    assert told is not None and told >= 0.95
    assert np.mean(shares) == pytest.approx(told, abs=0.03)
    some = collection.search(asked[:3], 10, filter="not has missing")
    assert [len(hits) for hits in some] == [10, 10, 10]
    collection.close()


def test_a_grown_collection_counts_its_changes(keeper: Keeper) -> None:
    """Only stores count them; a folder has deltas and tombstones of its own."""
    writer = keeper.open_writer()
    if isinstance(writer, StoreWriter):
        writer.upsert(["a", "b"], np.eye(2, 16))
        writer.store.write_note("tuning", {"effort": 1})
        assert writer.store.read_state().changed == 0
        writer.upsert(["b", "c"], np.eye(2, 16))
        writer.delete(["a"])
        assert writer.store.read_state().changed >= 3
        assert writer.store.read_state().count == 2
        writer.store.write_note("other", 1)
        assert writer.store.read_state().notes == {"tuning": {"effort": 1}, "other": 1}
        writer.store.write_note("other", None)
        assert writer.store.read_state().notes == {"tuning": {"effort": 1}}
    writer.close()
