"""Exact search against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.index.vectors import exact


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(0, 300),
    queries=st.integers(0, 5),
    k=st.integers(1, 12),
    half=st.booleans(),
    share=st.sampled_from([None, 0.0, 0.1, 0.9]),
    block=st.sampled_from([7, 64, 1000]),
)
def test_top_k_is_the_head_of_a_full_sort(
    seed: int, rows: int, queries: int, k: int, half: bool, share: float | None, block: int
) -> None:
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((rows, 8)).astype(np.float16 if half else np.float32)
    wanted = rng.standard_normal((queries, 8)).astype(np.float32)
    allowed = None if share is None else rng.random(rows) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "BLOCK_BYTES", 4 * 8 * block)
        patch.setattr(exact, "SEED_ROWS", 20)
        scores, places = exact.top_k(wanted, table, k, allowed)
    truth = wanted @ table.astype(np.float32).T
    if allowed is not None:
        truth[:, ~allowed] = -np.inf
    full = -np.sort(-truth, axis=1)[:, :k]
    full = np.pad(full, ((0, 0), (0, k - full.shape[1])), constant_values=-np.inf)
    np.testing.assert_allclose(scores, full, atol=1e-5)
    assert scores.shape == places.shape == (queries, k)
    for row in range(queries):
        filled = places[row][places[row] >= 0]
        assert len(set(filled)) == len(filled) == np.isfinite(full[row]).sum()
        np.testing.assert_allclose(truth[row, filled], full[row, : len(filled)], atol=1e-5)


def test_equal_scores_come_in_the_order_of_their_rows() -> None:
    table = np.ones((6, 4), dtype=np.float32)
    _, places = exact.top_k(np.ones((2, 4), np.float32), table, 6)
    assert places.tolist() == [[0, 1, 2, 3, 4, 5]] * 2


@pytest.mark.parametrize("count", [1, 3])
def test_rescoring_orders_candidates_by_their_full_rows(count: int) -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 8)).astype(np.float16)
    wanted = rng.standard_normal((count, 8)).astype(np.float32)
    places = np.array([[3, 10, -1, 49, 7]] * count)
    scores, found = exact.rescore(wanted, table, places, 3)
    for row in range(count):
        truth = {
            place: float(table[place].astype(np.float32) @ wanted[row]) for place in (3, 10, 49, 7)
        }
        assert found[row].tolist() == sorted(truth, key=lambda place: -truth[place])[:3]
        assert np.all(np.diff(scores[row]) <= 0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 20), k=st.integers(1, 12), gap=st.booleans())
def test_a_single_query_is_rescored_as_in_a_batch(seed: int, count: int, k: int, gap: bool) -> None:
    """A single query with all its candidates takes a shorter path."""
    rng = np.random.default_rng(seed)
    table = rng.integers(-1, 2, (30, 4)).astype(np.float16)  # many equal scores
    wanted = rng.integers(-1, 2, (1, 4)).astype(np.float32)
    places = rng.choice(30, (1, count), replace=False)
    places[0, 0] = -1 if gap else places[0, 0]
    alone = exact.rescore(wanted, table, places, k)
    among = exact.rescore(wanted.repeat(2, 0), table, places.repeat(2, 0), k)
    for single, many in ((alone[0], among[0]), (alone[1], among[1])):
        assert single.shape == (1, k)
        np.testing.assert_array_equal(single[0], many[0])


def test_every_finite_half_is_scored_as_its_cast() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    values = bits[np.isfinite(bits)][:, None]
    one = np.ones(1, np.float32)
    scores = exact.score_rows(one, values, np.arange(len(values)))
    assert np.array_equal(scores, values[:, 0].astype(np.float32))


def test_rows_at_half_precision_are_scored_as_at_full() -> None:
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((500, 64)) / 8).astype(np.float16)
    query = rng.standard_normal(64).astype(np.float32)
    places = rng.permutation(500)[:30]
    scores = exact.score_rows(query, rows, places)
    np.testing.assert_allclose(scores, rows[places].astype(np.float32) @ query, atol=1e-6)
    plain = exact.score_rows(query, rows.astype(np.float32), places)
    np.testing.assert_allclose(scores, plain, atol=1e-6)
