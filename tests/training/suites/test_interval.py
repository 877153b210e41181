"""Intervals hold the truth as often as they say."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from twinlens.training.suites.interval import bootstrap_interval, expand_tail, share_interval

DATA_SETS = 2000
SEED = 20_240_131


def simulate(rng: np.random.Generator, clusters: int) -> tuple[list[float], list[str]]:
    """Return scores of questions whose pictures differ in how hard they are; the mean is 0.75."""
    scores: list[float] = []
    names: list[str] = []
    for cluster in range(clusters):
        size = int(rng.integers(1, 9))
        scores += (rng.random(size) < rng.beta(6, 2)).astype(float).tolist()
        names += [str(cluster)] * size
    return scores, names


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [40, 134])
def test_of_two_thousand_intervals_95_per_cent_hold_the_truth(clusters: int) -> None:
    rng = np.random.default_rng(SEED)
    held = 0
    for data_set in range(DATA_SETS):
        low, high = bootstrap_interval(*simulate(rng, clusters), seed=data_set, draws=1000)
        held += low <= 0.75 <= high
    assert 0.935 <= held / DATA_SETS <= 0.965, held / DATA_SETS


def test_questions_of_one_picture_widen_the_interval() -> None:
    """A hundred questions of ten pictures say no more than ten pictures do."""
    scores = [float(cluster % 2) for cluster in range(10) for _ in range(10)]
    names = [str(cluster) for cluster in range(10) for _ in range(10)]
    low, high = bootstrap_interval(scores, names)
    alone_low, alone_high = bootstrap_interval(scores, [str(i) for i in range(100)])
    assert high - low > 2 * (alone_high - alone_low)


def test_cases_that_are_all_right_leave_room_for_doubt() -> None:
    """Of Clopper and Pearson: with 50 clusters, 0.025 to the power 1 / 50."""
    low, high = share_interval([1.0] * 50, [str(i) for i in range(50)])
    assert (round(low, 4), high) == (0.9289, 1.0)
    assert share_interval([0.0] * 50, [str(i) for i in range(50)]) == (0.0, 1 - low)


def test_one_picture_says_nothing_of_others() -> None:
    assert share_interval([1.0, 0.0], ["a", "a"]) == (0.0, 1.0)


def test_the_tail_is_students() -> None:
    """Student's 97.5 % quantiles of 9 and 99 degrees of freedom are 2.262 and 1.984."""
    for count, quantile in ((10, 2.262), (100, 1.984)):
        width = -NormalDist().inv_cdf(expand_tail(0.025, count)) * ((count - 1) / count) ** 0.5
        assert abs(width - quantile) < 0.005


def test_equal_seeds_give_equal_intervals() -> None:
    scores, names = simulate(np.random.default_rng(1), 30)
    assert bootstrap_interval(scores, names, seed=4) == bootstrap_interval(scores, names, seed=4)
    assert bootstrap_interval(scores, names, seed=4) != bootstrap_interval(scores, names, seed=5)
