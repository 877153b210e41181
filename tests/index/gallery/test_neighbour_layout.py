"""The layout of neighbours: those of the space are neighbours on the map, fast and repeatably."""

from __future__ import annotations

import time

import numpy as np
import pytest

from twinlens.index.gallery.neighbour_layout import (
    EXACT_ROWS,
    build_graph,
    find_nearest_rows,
    lay_out,
)
from twinlens.index.gallery.projection_2d import find_main_axes, scale_to_one
from twinlens.index.vectors.arrays import Floats, RowNumbers


def make_groups(count: int, groups: int = 20, dim: int = 32) -> tuple[Floats, RowNumbers]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, groups, count)
    rows = rng.normal(size=(groups, dim))[labels] + rng.normal(0, 0.5, (count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def measure_purity(points: Floats, labels: RowNumbers) -> float:
    """Return the share of the ten nearest points that are of the point's own group."""
    shares = []
    for i in range(0, len(points), max(1, len(points) // 200)):
        apart = ((points - points[i]) ** 2).sum(axis=1)
        apart[i] = np.inf
        nearest = np.argpartition(apart, 10)[:10]
        shares.append(float((labels[nearest] == labels[i]).mean()))
    return float(np.mean(shares))


def test_groups_that_principal_components_mix_are_kept_apart() -> None:
    rows, labels = make_groups(1500)
    start = scale_to_one(find_main_axes(rows)[0])
    points = lay_out(rows, start)
    assert np.abs(points).max() <= 1
    assert measure_purity(start, labels) < 0.7 < 0.95 < measure_purity(points, labels)
    np.testing.assert_array_equal(points, lay_out(rows, start))


def test_landmarks_find_the_neighbours_of_many_rows() -> None:
    rows, _ = make_groups(EXACT_ROWS + 500)
    near, cosines = find_nearest_rows(rows, 10)
    asked = np.arange(0, len(rows), 50)
    exact = rows[asked] @ rows.T
    exact[np.arange(len(asked)), asked] = -2
    wanted = np.argpartition(exact, -10, axis=1)[:, -10:]
    found = [
        len(set(a.tolist()) & set(b.tolist())) for a, b in zip(near[asked], wanted, strict=True)
    ]
    assert np.mean(found) > 8
    assert np.allclose(cosines[asked], np.take_along_axis(exact, near[asked], 1), atol=1e-5)
    assert not (near == np.arange(len(rows))[:, None]).any()
    assert all(len(set(one)) == len(one) for one in near[asked].tolist())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15])
def test_few_rows_and_copies_have_a_place(count: int) -> None:
    rows = np.tile(np.eye(1, 8, dtype=np.float32), (count, 1))
    points = lay_out(rows, np.zeros((count, 2), np.float32))
    assert points.shape == (count, 2) and np.isfinite(points).all()


def test_the_graph_weighs_the_nearest_most() -> None:
    rows, labels = make_groups(400, groups=4)
    graph = build_graph(rows)
    assert (labels[graph.first] == labels[graph.second]).mean() > 0.95
    assert graph.weights.min() > 0 and graph.weights.max() == 1


def test_it_ends_early_with_what_there_is() -> None:
    rows, _ = make_groups(300)
    start = scale_to_one(find_main_axes(rows)[0])
    assert np.abs(lay_out(rows, start, go_on=lambda: False)).max() <= 1


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_under_two_minutes_of_cpu(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows, labels = make_groups(100_000, groups=40, dim=256)
    start = scale_to_one(find_main_axes(rows)[0])
    began = time.process_time()
    points = lay_out(rows, start)
    took = time.process_time() - began
    purity = measure_purity(points, labels)
    with capsys.disabled():
        print(f"\n100,000 rows: {took:.0f} s of CPU, purity {purity:.3f}")  # noqa: T201
    assert took < 120
    assert purity > 0.9
