"""Every suite: chance for an encoder that knows nothing, 1.0 for one that was shown the answers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.training.suites.exhibits import TEMPLATES, draw_rows, make_material, read_answers
from twinlens.errors import InputError
from twinlens.training.suites.catalogue import SUITES, describe_suites, pick_suites
from twinlens.training.suites.examinee import embed_sheet
from twinlens.training.suites.material import Material
from twinlens.training.suites.sheet import Sheet

MATERIAL = make_material()
DRAWN = Material("no data")
# Each suite on data, and those that draw their own pictures also without.
ASKED = [(name, MATERIAL) for name in SUITES] + [("pairs", DRAWN), ("typographic", DRAWN)]
RANDOM_ENCODERS = 40


@cache
def write_sheet(name: str, data: str) -> Sheet:
    material = MATERIAL if data == MATERIAL.name else DRAWN
    return SUITES[name].write(material, TEMPLATES, 0)


on_all_data = pytest.mark.parametrize(
    ("name", "data"), [(name, material.name) for name, material in ASKED]
)


@on_all_data
def test_random_rows_score_chance_and_the_interval_holds_it(name: str, data: str) -> None:
    """Of 40 intervals of 95 %, fewer than 34 hold the truth in 3 of 1,000 such tests."""
    suite, sheet = SUITES[name], write_sheet(name, data)
    found = [
        suite.judge(name, sheet, draw_rows(sheet, seed), seed).measure
        for seed in range(RANDOM_ENCODERS)
    ]
    gaps = np.array([measure.score - measure.chance for measure in found])
    held = sum(measure.low <= measure.chance <= measure.high for measure in found)
    assert held >= 34, f"{held} of {RANDOM_ENCODERS} intervals hold chance"
    assert abs(gaps.mean()) < 4 * gaps.std() / RANDOM_ENCODERS**0.5


@on_all_data
def test_an_encoder_that_was_shown_the_answers_scores_one(name: str, data: str) -> None:
    suite, sheet = SUITES[name], write_sheet(name, data)
    rows = embed_sheet(read_answers(sheet), sheet)
    result = suite.judge(name, sheet, rows, 0)
    assert result.measure.score == 1.0
    assert result.measure.low < 1.0 == result.measure.high
    assert all(group.score == 1.0 for group in result.groups.values())


@pytest.mark.parametrize("name", SUITES)
def test_equal_seeds_ask_equal_questions(name: str) -> None:
    first, second = write_sheet(name, MATERIAL.name), SUITES[name].write(MATERIAL, TEMPLATES, 0)
    assert first.texts == second.texts
    assert [(q.query, q.right, q.cluster) for q in first.questions] == [
        (q.query, q.right, q.cluster) for q in second.questions
    ]


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_is_listed_with_its_data(name: str) -> None:
    (line,) = [line for line in describe_suites() if line.startswith(f"{name} ")]
    assert SUITES[name].asks in line and line.endswith("]")


def test_all_means_those_that_the_data_allow() -> None:
    assert [s.name for s in pick_suites("all", MATERIAL)] == list(SUITES)
    without = [s.name for s in pick_suites("all", Material("no data"))]
    assert without == ["relations", "pairs", "association", "typographic", "robustness"]


def test_suites_without_needs_run_on_drawings() -> None:
    for suite in pick_suites("all", Material("no data")):
        assert len(suite.write(Material("no data"), TEMPLATES, 0).questions) > 40


@pytest.mark.parametrize(
    ("names", "message"), [("colour", "choose from composition"), ("classes", "needs labels")]
)
def test_a_suite_that_cannot_run_says_why(names: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pick_suites(names, Material("no data"))
