"""Fitted calibrations of cosines that were drawn by a known rule."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from twinlens.bundle.calibration.calibration import find_evidence
from twinlens.bundle.calibration.fitting import (
    Matches,
    calibration_error,
    fit_calibration,
    fit_curve,
    fit_temperature,
    measure_calibration,
)


def draw_matches(askers: int, texts: int, *, gap: float = 0.3, seed: int = 0) -> Matches:
    """Return cosines of which wrong ones are normal about 0.1, and right ones about 0.1 + gap."""
    rng = np.random.default_rng(seed)
    right = np.zeros((askers, texts), bool)
    right[np.arange(askers), rng.integers(texts, size=askers)] = True
    return Matches(rng.normal(0.1, 0.05, (askers, texts)) + gap * right, right)


def test_a_limit_is_passed_by_the_best_of_wrong_ones_in_a_tenth_of_the_cases() -> None:
    """Of n normal ones the best stays below x with probability F(x) to the power n."""
    matches = draw_matches(1500, 40)
    found = fit_calibration([matches], [matches], 10.0, {})
    for one in found.classes:
        expected = NormalDist(0.1, 0.05).inv_cdf(0.9 ** (1 / one.candidates))
        assert one.limit == pytest.approx(expected, abs=0.008)


def test_other_pictures_are_refused_and_known_ones_are_not() -> None:
    """A gap of six deviations: mistakes near the tenth that the limit allows, no refusals."""
    known = draw_matches(1000, 40)
    found = fit_calibration([known], [known], 10.0, {})
    measured = measure_calibration(found, [draw_matches(1000, 40, seed=9)], 10.0)
    assert 0.07 < measured["mistakes"] < 0.13
    assert measured["refusals"] < 0.01
    assert measured["ece_calibrated"] < 0.03 < measured["ece"]


def test_an_encoder_that_knows_nothing_is_not_believed() -> None:
    """No gap: a right candidate looks like a wrong one, so most of what is answered is refused."""
    nothing = draw_matches(1000, 40, gap=0.0)
    found = fit_calibration([nothing], [nothing], 10.0, {})
    measured = measure_calibration(found, [draw_matches(1000, 40, gap=0.0, seed=9)], 10.0)
    assert measured["refusals"] > 0.85
    assert measured["ece_calibrated"] < 0.06


def test_a_limit_holds_for_each_data_set() -> None:
    """The second's cosines lie 0.2 higher; its limit is taken, not one between the two."""
    first, second = draw_matches(600, 16), draw_matches(600, 16)
    higher = Matches(second.cosines + 0.2, second.right)
    alone = fit_calibration([higher], [higher], 10.0, {})
    both = fit_calibration([first, higher], [first, higher], 10.0, {})
    for candidates in (1, 4, 8):
        limits = [find_evidence(one.classes, candidates).limit for one in (alone, both)]
        assert limits[0] == pytest.approx(limits[1])


def test_a_limit_refuses_no_more_right_answers_than_it_may() -> None:
    """Right ones lie two deviations over wrong ones: the best of many wrong ones passes a tenth."""
    known = draw_matches(1500, 40, gap=0.1)
    strict, kind = (fit_calibration([known], [known], 10.0, {}, refused=r) for r in (None, 0.1))
    refusals = [
        measure_calibration(one, [draw_matches(1500, 40, gap=0.1, seed=9)], 10.0)["refusals"]
        for one in (strict, kind)
    ]
    assert refusals[0] > 0.2
    assert refusals[1] == pytest.approx(0.1, abs=0.03)


def test_a_limit_that_refuses_little_is_left_where_it_is() -> None:
    known = draw_matches(300, 8)
    strict, kind = (fit_calibration([known], [known], 10.0, {}, refused=r) for r in (None, 0.1))
    assert strict == kind


def test_levels_are_taken_from_all_cosines_of_a_picture() -> None:
    matches = draw_matches(3, 4)
    less = matches.less(np.array([0.0, 0.1, 0.2]))
    assert (matches.cosines - less.cosines) == pytest.approx(np.outer([0.0, 0.1, 0.2], np.ones(4)))
    assert less.right is matches.right


def test_the_curve_is_the_one_that_labels_were_drawn_by() -> None:
    rng = np.random.default_rng(2)
    cosines = rng.normal(0.3, 0.1, 20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-25 * (cosines - 0.35)))
    middle, slope = fit_curve(cosines, right)
    assert middle == pytest.approx(0.35, abs=0.005)
    assert slope == pytest.approx(25, rel=0.06)


def test_the_temperature_undoes_a_scale_that_is_too_large() -> None:
    """Right and wrong cosines that differ by a normal gap: likeliest at gap over variance."""
    matches = draw_matches(1500, 40, gap=0.1)
    fitted = fit_temperature([matches], 80.0, 0)
    # Two normals of deviation s whose means differ by g have log odds of g / s^2 a cosine: 40.
    assert fitted == pytest.approx(2.0, rel=0.1)


def test_equal_cosines_give_an_equal_calibration() -> None:
    matches = draw_matches(100, 12)
    assert fit_calibration([matches], [matches], 10.0, {}) == fit_calibration(
        [matches], [matches], 10.0, {}
    )


def test_the_error_is_the_gap_between_confidence_and_hits() -> None:
    """Half at 0.9 that are right, half at 0.5 that are right half the time: 0.1 / 2."""
    confidence = np.array([0.9] * 10 + [0.5] * 10)
    hit = np.array([True] * 10 + [True, False] * 5)
    assert abs(calibration_error(confidence, hit) - 0.05) < 1e-9
