"""Outliers made from a domain's own pictures."""

from __future__ import annotations

import numpy as np

from tests.bundle.domain.scene import SIDE, draw_discs, draw_frames
from twinlens.bundle.domain.outliers import make_outliers


def test_they_have_the_shape_of_the_pictures_and_are_the_same_for_a_seed() -> None:
    groups = [draw_discs(20, 1), draw_frames(20, 1)]
    made = make_outliers(groups, 9, seed=4)
    assert made.shape == (9, SIDE, SIDE, 3)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, make_outliers(groups, 9, seed=4))
    assert (made != make_outliers(groups, 9, seed=5)).any()


def test_none_is_one_of_the_pictures() -> None:
    pictures = draw_discs(30, 1)
    made = make_outliers([pictures], 60)
    equal = (made[:, None] == pictures[None]).all((2, 3, 4))
    assert not equal.any()


def test_a_group_without_pictures_is_left_out() -> None:
    assert len(make_outliers([draw_discs(0, 1), draw_discs(5, 1)], 3)) == 3
