"""Indexes of segments: accurate reports, harmless damage, correct filters."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.index.synthetic import Manifold, World
from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.index.ann import ann_index, candidates, kinds, recall, stored_index, tuner
from twinlens.index.ann.candidates import IndexParams
from twinlens.index.ann.filtered_params import FilteredParams, choose_params
from twinlens.index.ann.kinds import KINDS, find_kind
from twinlens.index.ann.policy import choose_kinds
from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise, repair, store_sample
from twinlens.index.stats import read_stats, report_recall
from twinlens.index.vectors import faiss_setup
from twinlens.index.vectors.space import centred_space, identity_space, projected_space
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

WORLD = World()
COUNT = 6000


@pytest.fixture(scope="module", autouse=True)
def _quicker_tuning() -> Iterator[None]:
    """Tune filters on fewer queries; the confidence bound is then stricter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuner, "FILTERED_QUERIES", 120)
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    """Return a writer on 6000 items; tests change only its indexes, never its items."""
    folder = tmp_path_factory.mktemp("shared") / "c"
    create_collection(folder, dim=WORLD.dim)
    with Writer(folder) as writer:
        rows = WORLD.images(COUNT, 1)
        metadata = [{"n": n, "even": n % 2 == 0} for n in range(COUNT)]
        writer.upsert([f"i{n}" for n in range(COUNT)], rows, metadata)
        store_sample(writer, "text", WORLD.texts(600, 2), "given")
        writer.seal()
        yield writer


def true_recall(collection: Collection, queries: Rows) -> float:
    snapshot = collection.snapshot()
    _, found = snapshot.search(queries, 10)
    _, truth = snapshot.search(queries, 10, exact=True)
    same = (found[:, :, None] == truth[:, None, :]).any(axis=2)
    return float(same.mean())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_reaches_its_reported_recall(shared: Writer, kind: str) -> None:
    if obstacle := find_kind(kind).obstacle():
        pytest.skip(obstacle)
    stages: list[str] = []
    optimise(shared, IndexPlan(kind, 0.9), stages.append)
    stats = read_stats(shared.collection)
    if stats["exact"]:  # the coarsest codes cannot reach the target in so few dimensions
        assert kind in {"ivf-pq", "projected-sq8"}
        assert "searched exactly" in stages[-1]
        return
    assert stats["segments"][0]["index"] == kind
    recall = stats["recall"]
    assert min(recall.values()) >= 0.9
    for modality, queries in (("text", WORLD.texts(1000, 77)), ("image", WORLD.images(1000, 78))):
        assert true_recall(shared.collection, queries) == pytest.approx(recall[modality], abs=0.03)
    assert verify_collection(shared.folder).is_sound


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["ivf-sq8", "sq8", "hnsw"])
def test_filtered_searches_are_complete_and_accurate(
    shared: Writer, kind: str, share: float
) -> None:
    optimise(shared, IndexPlan(kind, 0.9))
    wanted = max(1, int(share * COUNT))
    rows = np.asarray(shared.collection.snapshot().parts[0].segment.embeddings, np.float32)
    queries = WORLD.texts(60, 5)
    for text in (f"n < {wanted}", f"n >= {COUNT - wanted}"):
        exact = shared.collection.search(queries, 10, filter=text, exact=True)
        found = shared.collection.search(queries, 10, filter=text)
        assert {len(hits) for hits in found} == {min(10, wanted)}
        same = [
            len({h.id for h in a} & {h.id for h in b}) for a, b in zip(exact, found, strict=True)
        ]
        assert sum(same) >= 0.99 * sum(len(hits) for hits in exact)
    assert len(rows) == COUNT


def test_an_adverse_filter_visits_enough_rows(tmp_path: Path) -> None:
    """The allowed rows are in the lists that an inverted file visits last."""
    create_collection(tmp_path / "c", dim=WORLD.dim)
    rows = WORLD.images(COUNT, 1)
    query = WORLD.texts(1, 5)[0]
    far = np.argsort(rows @ query)[: COUNT // 10]
    metadata = [{"far": False} for _ in range(COUNT)]
    for row in far:
        metadata[row] = {"far": True}
    with Writer(tmp_path / "c") as writer:
        writer.upsert([f"i{n}" for n in range(COUNT)], rows, metadata)
        store_sample(writer, "text", WORLD.texts(600, 2), "given")
        optimise(writer, IndexPlan("ivf-sq8", 0.9))
        exact = writer.collection.search(query, 10, filter="far = true", exact=True)[0]
        found = writer.collection.search(query, 10, filter="far = true")[0]
    assert len({hit.id for hit in exact} & {hit.id for hit in found}) >= 9


def test_an_index_never_returns_deleted_items(tmp_path: Path) -> None:
    create_collection(tmp_path / "c", dim=WORLD.dim)
    rows = WORLD.images(3000, 1)
    with Writer(tmp_path / "c") as writer:
        writer.upsert([f"i{n}" for n in range(3000)], rows)
        optimise(writer, IndexPlan("ivf-sq8", 0.9))
        gone = [hit.id for hit in writer.collection.search(rows[0], 50)[0]]
        writer.delete(gone)
        hits = writer.collection.search(rows[0], 50)[0]
        assert len(hits) == 50
        assert not {hit.id for hit in hits} & set(gone)


def test_a_damaged_index_is_bypassed_and_rebuilt(tmp_path: Path) -> None:
    create_collection(tmp_path / "c", dim=WORLD.dim)
    rows = WORLD.images(3000, 1)
    with Writer(tmp_path / "c") as writer:
        writer.upsert([f"i{n}" for n in range(3000)], rows)
        optimise(writer, IndexPlan("ivf-sq8", 0.9))
    luck = random.Random(1)
    for _ in range(3):
        path = next((tmp_path / "c").glob("idx-*/index.faiss"))
        raw = bytearray(path.read_bytes())
        raw[luck.randrange(len(raw))] ^= 4
        path.write_bytes(raw)
        verdict = verify_collection(tmp_path / "c")
        assert verdict.faults == ()
        assert len(verdict.index_faults) == 1
        with Collection(tmp_path / "c") as reader:
            hits = reader.search(rows[:5], 10)
            assert hits == reader.search(rows[:5], 10, exact=True)
            stats = read_stats(reader)
            assert stats["recall"] == {"image": 1.0, "text": 1.0}
            assert "damaged" in stats["segments"][0]["damage"]
        with Writer(tmp_path / "c") as writer:
            assert repair(writer) == [path.parent.name]
        assert verify_collection(tmp_path / "c").is_sound


def test_tuning_on_images_alone_would_pass_and_fails_on_texts() -> None:
    """Quantised rows serve image queries well and text queries badly."""
    world = World(dim=128, gap=1.2, noise=0.8, concepts=800, topics=40)
    rows = world.images(8000, 1)
    index = _plain_index("ivf-pq", rows)
    own = np.arange(0, 8000, 8)
    images = recall.true_sample(rows[own], rows, own)
    texts = recall.true_sample(world.texts(2000, 2), rows)
    target = 0.9
    alone = tuner.tune(index, rows, {"image": images}, target)
    assert alone is not None
    assert alone.recall["image"].value >= target
    delivered = recall.recall_of(index, texts, alone.params).value
    assert delivered < target - 0.05  # the reported recall would be too high
    both = tuner.tune(index, rows, {"image": images, "text": texts}, target)
    assert both is not None
    assert both.params != alone.params
    assert min(one.value for one in both.recall.values()) >= target - 0.01


def test_an_unreachable_target_means_exact_search(shared: Writer) -> None:
    stages: list[str] = []
    optimise(shared, IndexPlan("ivf-pq", 0.999), stages.append)
    stats = read_stats(shared.collection)
    if stats["exact"]:
        assert stats["recall"] == {"image": 1.0, "text": 1.0}
        assert "no index reaches 0.999" in stages[-1]
    else:
        assert min(stats["recall"].values()) >= 0.998


def test_a_graph_s_recall_is_measured_on_rows_that_it_does_not_contain(tmp_path: Path) -> None:
    manifold = Manifold(dim=64)
    rows, fresh = manifold.images(8000, 1), manifold.images(4000, 2)
    create_collection(tmp_path / "c", dim=64)
    with Writer(tmp_path / "c") as writer:
        writer.upsert([f"i{n}" for n in range(8000)], rows)
        optimise(writer, IndexPlan("hnsw", 0.9))
        report = report_recall(writer.collection.snapshot())["image"]
        true = true_recall(writer.collection, fresh)
        held = writer.collection.snapshot().parts[0].ann_index
        assert held is not None
        rows = np.asarray(writer.collection.snapshot().parts[0].segment.embeddings, np.float32)
    assert report.low is not None
    assert report.high is not None
    assert report.low <= true <= report.high
    # Rows of the graph as queries, each excluding only itself, overstate the recall.
    space = identity_space(64)
    index = candidates.Candidates(
        "hnsw", ann_index._train_and_add(find_kind("hnsw"), rows, space), space
    )
    own = np.arange(0, 8000, 8)
    overstated = recall.recall_of(
        index, recall.true_sample(rows[own], rows, own), held.tuning.params
    )
    assert overstated.low > true


def test_withheld_rows_are_added_to_the_graph_after_tuning(shared: Writer) -> None:
    optimise(shared, IndexPlan("hnsw", 0.9))
    rows = np.asarray(shared.collection.snapshot().parts[0].segment.embeddings, np.float32)
    found = shared.collection.search(rows, 1)
    assert sum(hits[0].id == f"i{n}" for n, hits in enumerate(found)) >= 0.99 * COUNT
    row = shared.catalog.segments()[0].index
    assert row is not None
    plain = faiss.read_index(str(shared.folder / row.name / "index.faiss"))  # by any FAISS
    assert plain.ntotal == COUNT
    _, places = plain.search(rows[:100], 1)
    assert (places[:, 0] == np.arange(100)).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_the_reported_recall_is_accurate_on_20_distributions(number: int) -> None:
    luck = np.random.default_rng(number)
    world = World(
        dim=int(luck.choice([32, 64, 96])),
        topics=int(luck.integers(5, 60)),
        concepts=int(luck.integers(100, 1500)),
        gap=float(luck.uniform(0, 1.5)),
        noise=float(luck.uniform(0.1, 0.9)),
        detail=float(luck.uniform(0.3, 1)),
        decay=float(luck.uniform(0.2, 0.8)),
        seed=number,
    )
    rows = world.images(8000, 1)
    index = _plain_index("ivf-sq8", rows)
    own = np.sort(luck.choice(8000, 2000, replace=False))
    samples = {
        "image": recall.true_sample(rows[own], rows, own),
        "text": recall.true_sample(world.texts(2000, 2), rows),
    }
    tuning = tuner.tune(index, rows, samples, 0.95)
    assert tuning is not None
    unseen = recall.true_sample(world.texts(4000, 3), rows)
    truth = recall.recall_of(index, unseen, tuning.params).value
    assert truth >= 0.94
    assert tuning.recall["text"].value == pytest.approx(truth, abs=0.01)


def test_halves_of_a_sample_have_no_query_in_common() -> None:
    rows = WORLD.images(500, 1)
    sample = recall.true_sample(rows[:100], rows, np.arange(100))
    first, second = sample.half(0), sample.half(1)
    assert len(first.queries) + len(second.queries) == 100
    assert not set(map(bytes, first.queries)) & set(map(bytes, second.queries))
    assert not (sample.truth == np.arange(100)[:, None]).any()  # never the query itself


def test_wilsons_interval_matches_known_values_and_covers_the_truth() -> None:
    low, high = recall.wilson(0.95, 100, 1.96)
    np.testing.assert_allclose([low, high], [0.8882, 0.9785], atol=1e-3)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        easy = rng.beta(6, 0.6, 300)  # queries differ, so answers of one are not independent
        shares = rng.binomial(10, easy) / 10
        found = recall.measure(shares)
        covered += found.low <= 6 / 6.6 <= found.high
    assert covered >= 180


@pytest.mark.parametrize("make", ["whole", "centred", "projected"])
def test_a_space_keeps_the_order_of_inner_products(make: str, tmp_path: Path) -> None:
    rows, queries = WORLD.images(400, 1), WORLD.texts(200, 2)
    spaces: dict[str, Callable[[], object]] = {
        "whole": lambda: identity_space(WORLD.dim),
        "centred": lambda: centred_space(rows),
        "projected": lambda: projected_space(rows, queries[:100], WORLD.dim),
    }
    space = spaces[make]()
    assert isinstance(space, type(identity_space(2)))
    space.save(tmp_path)
    again = type(space).load(tmp_path)
    scores = again.map_queries(queries) @ again.map_rows(rows).T
    truth = queries @ rows.T
    shift = scores - truth  # the same for all rows of a query
    np.testing.assert_allclose(shift, shift[:, :1].repeat(400, 1), atol=2e-3)


def test_a_projection_fitted_to_queries_beats_one_of_rows_alone() -> None:
    world = World(dim=96, gap=1.0)
    rows, queries, unseen = world.images(4000, 1), world.texts(1000, 2), world.texts(300, 3)
    fitted = projected_space(rows, queries, 16)
    blind = projected_space(rows, rows, 16)
    truth = np.argsort(-(unseen @ rows.T), axis=1)[:, :10]

    def recall(space: object) -> float:
        assert isinstance(space, type(fitted))
        rough = np.argsort(-(space.map_queries(unseen) @ space.map_rows(rows).T), axis=1)[:, :100]
        return float(
            np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, rough, strict=True)])
        )

    assert recall(fitted) > recall(blind) + 0.02


def test_the_policy_follows_size_memory_and_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "rabitq_obstacle", lambda: "rabitqlib is not installed")
    assert choose_kinds(50_000, 512, text_sample=True) == []
    assert choose_kinds(200_000, 512, text_sample=True, memory=1 << 33)[0] == "projected-sq8"
    assert choose_kinds(200_000, 512, text_sample=False, memory=1 << 33) == ["sq8"]
    assert choose_kinds(1_000_000, 512, text_sample=True, memory=1 << 33)[0] == "ivf-sq8"
    assert choose_kinds(1_000_000, 512, text_sample=True, memory=1 << 28)[0] == "ivf-pq"
    monkeypatch.setattr(kinds, "rabitq_obstacle", lambda: None)
    assert choose_kinds(50_000, 512, text_sample=True) == []
    assert choose_kinds(200_000, 512, text_sample=True, memory=1 << 33)[0] == "ivf-rabitq4"
    assert choose_kinds(1_000_000, 512, text_sample=False, memory=3 << 27)[0] == "ivf-rabitq4"
    assert choose_kinds(1_000_000, 512, text_sample=True, memory=1 << 28)[0] == "ivf-pq"
    with pytest.raises(InputError, match="known: auto, exact, ivf-rabitq4, projected-sq8"):
        find_kind("magic")


def test_faiss_is_configured_and_complies() -> None:
    setup = faiss_setup.read_setup()
    release = tuple(map(int, setup.version.split(".")[:2]))
    if release >= (1, 15):  # counts values: one query of 512 must not become a GEMM
        assert setup.blas_threshold == faiss_setup.GEMM_VALUES > 512
    else:
        assert setup.blas_threshold in (faiss_setup.GEMM_QUERIES, faiss_setup.GEMM_VALUES)
    chosen_by_us = faiss_setup.CORE_TYPE not in os.environ
    if setup.blas_core and faiss_setup.has_avx512() and chosen_by_us:
        assert setup.blas_core == faiss_setup.AVX512_CORE


def _plain_index(kind_name: str, rows: Rows) -> candidates.Candidates:
    kind = find_kind(kind_name)
    space = centred_space(rows)
    index = ann_index._train_and_add(kind, rows, space)
    return candidates.Candidates(kind_name, index, space)


def test_tuning_survives_a_round_trip_through_json() -> None:
    filtered = (FilteredParams(1.0, IndexParams(8, 3)), FilteredParams(0.5, None))
    recalls = {"image": recall.Recall(0.97, 0.96, 0.98, 500)}
    one = tuner.Tuning(IndexParams(8, 3), 0.95, recalls, 0.2, filtered)
    raw = json.loads(json.dumps(dataclasses.asdict(one)))
    assert stored_index.tuning_from(raw) == one
    del raw["filtered"]
    # From an older version: filtered searches are exact.
    assert stored_index.tuning_from(raw).filtered == ()


def test_filtered_searches_interpolate_between_measured_parameters() -> None:
    tuned = (
        FilteredParams(1.0, IndexParams(16, 2)),
        FilteredParams(0.5, IndexParams(32, 3)),
        FilteredParams(0.1, IndexParams(128, 2)),
        FilteredParams(0.02, None),
    )
    assert choose_params(tuned, 0.5) == IndexParams(32, 3)
    assert choose_params(tuned, 0.1) == IndexParams(128, 2)
    between = choose_params(tuned, 0.22)
    assert between is not None
    assert 32 < between.probe < 128
    assert between.expansion == 3
    assert choose_params(tuned, 0.05) is None  # nothing reached the target at the narrower end
    assert choose_params(tuned, 0.001) is None
    assert choose_params(tuned[:3], 0.001) == IndexParams(128, 2)
    assert choose_params((), 0.5) is None


def test_a_narrower_filter_visits_more_lists(
    shared: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This collection is small: all lists.
    monkeypatch.setattr(tuner, "widen", lambda *trial: trial[4])
    optimise(shared, IndexPlan("ivf-sq8", 0.9))
    index = shared.collection.snapshot().parts[0].ann_index
    assert index is not None
    tuned = index.tuning.filtered
    assert [one.share for one in tuned] == [1.0, 0.5, 0.1, 0.02]
    probes = [one.params.probe for one in tuned if one.params]
    assert len(probes) >= 2
    assert probes == sorted(probes)
    assert probes[-1] > index.tuning.params.probe


def test_the_bound_without_misses_is_at_least_that_with_one_miss() -> None:
    perfect = np.ones(100)
    missed = np.append(np.ones(99), 0.9)
    assert recall.lower_bound(perfect) >= recall.lower_bound(missed) > 0.99
    assert recall.lower_bound(np.append(np.ones(99), 0.0)) < 0.98
