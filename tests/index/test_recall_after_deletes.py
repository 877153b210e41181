"""The reported recall after deletions is true, or reported as stale."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.index.synthetic import World
from twinlens.bundle.arrays import Rows
from twinlens.index.ann import tuner
from twinlens.index.ann.answers import ANSWERS_NAME, STALE_SHARE, load_answers
from twinlens.index.ann.recall import MEASURED, NOT_MEASURED, STALE
from twinlens.index.collection import Collection
from twinlens.index.maintenance import (
    IndexPlan,
    needs_maintenance,
    optimise,
    repair,
    repeat_plan,
    store_sample,
)
from twinlens.index.snapshot import SegmentView
from twinlens.index.stats import describe_segment, measured_recall, read_stats, report_recall
from twinlens.index.writer import Writer, create_collection

WORLD = World()
COUNT = 6000
ROWS = WORLD.images(COUNT, 1)
TEXTS = WORLD.texts(2000, 77)
CHANCE = 0.01  # what the mean of so many fresh queries is off by, at most


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection with an inverted file, tuned."""
    folder = tmp_path_factory.mktemp("built") / "c"
    create_collection(folder, dim=WORLD.dim)
    with Writer(folder) as writer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuner, "FILTERED_QUERIES", 120)
        patch.setattr(tuner, "widen", lambda *trial: trial[4])  # this world is small: all lists
        writer.upsert([f"i{n}" for n in range(COUNT)], ROWS)
        store_sample(writer, "text", WORLD.texts(2000, 2), "given")
        optimise(writer, IndexPlan("ivf-sq8", 0.9))
        assert writer.catalog.segments()[0].index is not None
    return folder


@pytest.fixture
def writer(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """Return a writer on a copy of it."""
    monkeypatch.setattr(tuner, "FILTERED_QUERIES", 120)
    monkeypatch.setattr(tuner, "widen", lambda *trial: trial[4])
    shutil.copytree(built, tmp_path / "c")
    with Writer(tmp_path / "c") as opened:
        yield opened


def nearest_to_texts(count: int) -> list[str]:
    """Return the ids of the rows that come up first for texts like those sampled."""
    score = (ROWS @ WORLD.texts(1000, 2).T).max(axis=1)
    return [f"i{row}" for row in np.argsort(-score)[:count]]


def part_of(writer: Writer) -> SegmentView:
    return writer.collection.snapshot().parts[0]


def true_recall(collection: Collection, queries: Rows) -> float:
    snapshot = collection.snapshot()
    found, truth = snapshot.search(queries, 10)[1], snapshot.search(queries, 10, exact=True)[1]
    return float((found[:, :, None] == truth[:, None, :]).any(axis=2).mean())


def test_recall_is_1_after_deleting_almost_all_rows(writer: Writer) -> None:
    writer.delete([f"i{n}" for n in range(COUNT - 100)])
    assert measured_recall(writer.collection.snapshot()) == {"image": 1.0, "text": 1.0}
    assert true_recall(writer.collection, TEXTS[:50]) == 1.0


def test_segments_are_weighted_by_their_live_rows(writer: Writer) -> None:
    """Dead rows of one segment do not count against another."""
    index = part_of(writer)
    report = measured_recall(writer.collection.snapshot())["text"]
    assert report is not None
    writer.upsert([f"new{n}" for n in range(COUNT)], WORLD.images(COUNT, 5))
    writer.seal()
    snapshot = writer.collection.snapshot()
    assert measured_recall(snapshot)["text"] == pytest.approx((report + 1) / 2, abs=1e-3)
    lonely = dataclasses.replace(index, live=np.arange(COUNT) < 3000)
    object.__setattr__(lonely, "lost_shares", {"image": 0.0, "text": 0.0})
    half = dataclasses.replace(snapshot, parts=(lonely, snapshot.parts[1]))
    assert measured_recall(half)["text"] == pytest.approx((report + 2) / 3, abs=1e-3)


def test_after_random_deletions_the_recall_is_true_or_stale(writer: Writer) -> None:
    order = np.random.default_rng(0).permutation(COUNT)
    stale = 0
    for share in (0.01, 0.03, 0.1, 0.5):
        writer.delete([f"i{n}" for n in order[: int(share * COUNT)]])
        report = report_recall(writer.collection.snapshot())["text"]
        true = true_recall(writer.collection, TEXTS)
        if report.state == STALE:
            stale += 1
            assert true >= 0.98  # the search is wider until the recall is measured again
            continue
        assert report.low is not None
        assert report.high is not None
        assert report.low - CHANCE <= true <= report.high + CHANCE
    assert stale >= 2


def test_deleting_rows_near_texts_makes_the_recall_stale_and_widens_the_search(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.delete(nearest_to_texts(COUNT // 10))
    report = read_stats(writer.collection)
    assert report["recall_state"]["text"] == STALE
    assert report["recall"]["text"] is None
    assert any("stale" in line for line in describe_segment(report["segments"][0]))
    wide = true_recall(writer.collection, TEXTS)
    assert wide >= 0.98
    monkeypatch.setattr("twinlens.index.snapshot.STALE_SHARE", 1.0)
    assert true_recall(writer.collection, TEXTS) < wide - 0.01  # else this shows nothing


def test_a_stale_recall_is_measured_again_on_the_live_rows(writer: Writer) -> None:
    gone = nearest_to_texts(COUNT // 10)
    writer.delete(gone)
    before = writer.catalog.segments()[0]
    assert needs_maintenance(writer.collection.snapshot())
    stages: list[str] = []
    optimise(writer, repeat_plan(writer.collection.snapshot()), stages.append)
    after = writer.catalog.segments()[0]
    assert "measuring again after deletions" in stages
    assert after.name == before.name  # too few are dead for a compaction
    assert after.index is not None
    assert after.index.kind == "ivf-sq8"
    assert not needs_maintenance(writer.collection.snapshot())
    report = report_recall(writer.collection.snapshot())["text"]
    assert report.state == MEASURED
    assert report.low is not None
    assert report.high is not None
    true = true_recall(writer.collection, TEXTS)
    assert report.low - CHANCE <= true <= report.high + CHANCE
    found = {hit.id for hits in writer.collection.search(TEXTS[:50], 10) for hit in hits}
    assert not found & set(gone)


def test_many_deletions_lead_to_a_compaction(writer: Writer) -> None:
    writer.delete([f"i{n}" for n in range(COUNT // 4)])
    assert needs_maintenance(writer.collection.snapshot())
    optimise(writer, repeat_plan(writer.collection.snapshot()))
    assert writer.catalog.segments()[0].rows == COUNT - COUNT // 4
    assert part_of(writer).live is None
    assert not needs_maintenance(writer.collection.snapshot())


def test_few_deletions_widen_the_interval_by_the_share_of_deleted_answers(writer: Writer) -> None:
    before = report_recall(writer.collection.snapshot())["text"]
    writer.delete(nearest_to_texts(COUNT)[200:230])
    lost = part_of(writer).lost_shares["text"]
    assert 0 < lost < STALE_SHARE
    assert not needs_maintenance(writer.collection.snapshot())
    after = report_recall(writer.collection.snapshot())["text"]
    assert before.low is not None
    assert after.low == pytest.approx(before.low - lost, abs=2e-4)
    assert after.value == before.value


def test_a_stale_index_without_filtered_params_is_not_used(writer: Writer) -> None:
    part = part_of(writer)
    assert part.ann_index is not None
    live = np.random.default_rng(1).random(COUNT) < 0.8
    part.ann_index.tuning = dataclasses.replace(part.ann_index.tuning, filtered=())
    view = dataclasses.replace(part, live=live)
    assert view.is_stale
    assert view.is_exact
    found, exact = (view.search(TEXTS[:100], 10, None, exact=one)[1] for one in (False, True))
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_without_stored_answers_few_deletions_make_the_recall_stale(
    writer: Writer, damage: str
) -> None:
    row = writer.catalog.segments()[0].index
    assert row is not None
    path = writer.folder / row.name / ANSWERS_NAME
    assert set(load_answers(path.parent, row.files) or {}) == {"image", "text"}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert load_answers(path.parent, row.files) is None
    writer.delete([f"i{n}" for n in range(COUNT // 50)])  # 2 %
    assert part_of(writer).is_stale
    writer.close()
    with Writer(writer.folder) as again:
        assert repair(again) == [row.name]


def test_a_modality_without_queries_is_not_measured(tmp_path: Path) -> None:
    create_collection(tmp_path / "d", dim=WORLD.dim)
    with Writer(tmp_path / "d") as writer:
        writer.upsert([f"i{n}" for n in range(3000)], ROWS[:3000])
        optimise(writer, IndexPlan("sq8", 0.9))
        report = report_recall(writer.collection.snapshot())
    assert (report["image"].state, report["text"].state) == (MEASURED, NOT_MEASURED)
