"""A diverse subset covers all rows, within twice the best possible radius."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.index.upkeep.selection import select_diverse

Make = Callable[[int], Rows]


def test_each_group_is_chosen_from_before_any_twice(rows: Make) -> None:
    centres = rows(8)
    groups = np.repeat(np.arange(8), 25)
    raw = centres[groups] + 0.05 * rows(200)
    table = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float16)
    chosen, _ = select_diverse(table, 8)
    assert sorted(groups[chosen].tolist()) == list(range(8))


def test_the_radius_is_within_twice_the_best(rows: Make) -> None:
    """Distances of unit rows are a metric; the best subset of three is found by trying all."""
    table = rows(18).astype(np.float16)
    wide = table.astype(np.float32)
    apart = np.linalg.norm(wide[:, None] - wide[None], axis=2)

    def radius(subset: tuple[int, ...]) -> float:
        return float(apart[list(subset)].min(axis=0).max())

    chosen, covered = select_diverse(table, 3)
    best = min(radius(subset) for subset in itertools.combinations(range(18), 3))
    assert best <= radius(tuple(chosen)) <= 2 * best
    assert radius(tuple(chosen)) == pytest.approx(np.sqrt(2 - 2 * covered), abs=2e-3)


def test_more_than_there_are_gives_all_once(rows: Make) -> None:
    chosen, covered = select_diverse(rows(7).astype(np.float16), 20)
    assert (sorted(chosen), covered) == (list(range(7)), 1.0)
    assert select_diverse(np.empty((0, 16), np.float16), 3) == ([], 1.0)
    with pytest.raises(InputError):
        select_diverse(rows(7).astype(np.float16), 0)
