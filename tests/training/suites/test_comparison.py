"""Differences are paired, and nobody wins inside the interval."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.suites.exhibits import (
    TEMPLATES,
    draw_rows,
    make_material,
    read_answers,
)
from twinlens.errors import TwinlensError
from twinlens.training.suites.catalogue import SUITES
from twinlens.training.suites.comparison import compare_results
from twinlens.training.suites.examinee import embed_sheet
from twinlens.training.suites.result import Outcome, Result, measure_outcomes


def make_result(scores: list[float]) -> Result:
    outcomes = tuple(Outcome(score, 0.5, str(i)) for i, score in enumerate(scores))
    return Result("made", measure_outcomes(outcomes), outcomes=outcomes)


def test_two_encoders_of_one_worth_have_no_winner() -> None:
    """Of 60 pairs alike in truth, 5 % may be called; 10 or more in 1 of 1,000 such tests."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(60):
        first, other = (make_result((rng.random(80) < 0.6).astype(float).tolist()) for _ in "ab")
        called += bool(compare_results(first, other).winner)
    assert called < 10


def test_a_pair_shows_what_two_intervals_hide() -> None:
    """The other is right where the first is, and on 9 of 100 more."""
    first = [float(i % 2 == 0) for i in range(100)]
    other = [max(score, float(i % 12 == 1)) for i, score in enumerate(first)]
    one, two = make_result(first), make_result(other)
    assert one.measure.high > two.measure.low
    found = compare_results(one, two)
    assert found.winner == "other" and found.low > 0
    assert compare_results(two, one).winner == "first"


def test_who_was_shown_the_answers_beats_who_knows_nothing() -> None:
    suite = SUITES["classes"]
    sheet = suite.write(make_material(60), TEMPLATES, 0)
    knows_nothing = suite.judge("classes", sheet, draw_rows(sheet, 0), 0)
    knows_all = suite.judge("classes", sheet, embed_sheet(read_answers(sheet), sheet), 0)
    found = compare_results(knows_nothing, knows_all)
    assert found.winner == "other" and found.other == 1.0
    assert found.to_json()["change"] == round(1 - knows_nothing.measure.score, 4)


def test_equal_encoders_differ_by_nothing() -> None:
    result = make_result([1.0, 0.0, 1.0])
    found = compare_results(result, result)
    assert (found.low, found.change, found.high, found.winner) == (0.0, 0.0, 0.0, "")


def test_answers_to_different_questions_are_not_paired() -> None:
    with pytest.raises(TwinlensError, match="different questions"):
        compare_results(make_result([1.0]), make_result([1.0, 0.0]))
