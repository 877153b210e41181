"""Calibration errors and temperatures of cases whose answers are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.training.suites.exhibits import SOFTMAX, TEMPLATES, draw_rows, make_material
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.training.suites.questions.calibration import (
    fit_temperature,
    judge_calibration,
    measure_doubt,
    measure_risks,
    measure_sureness,
    to_probabilities,
    write_calibration,
)


def draw_logits(count: int, stretch: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return logits `stretch` times too large for the classes drawn by them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(count, 5), scale=2)
    draws = np.log(to_probabilities(logits, SOFTMAX)) + rng.gumbel(size=logits.shape)
    return logits * stretch, draws.argmax(axis=1)


def test_the_temperature_undoes_a_stretch() -> None:
    for stretch in (0.25, 1.0, 4.0):
        logits, truth = draw_logits(4000, stretch)
        assert abs(fit_temperature(logits, truth, SOFTMAX) / stretch - 1) < 0.1


def test_a_mended_encoder_is_believed_rightly() -> None:
    logits, truth = draw_logits(4000, 4.0)
    numbers = measure_doubt(logits, truth, SOFTMAX)
    assert numbers["ece"] > 0.15
    assert numbers["ece_mended"] < 0.04
    assert numbers["risk_at_50%"] < numbers["risk_at_80%"] < numbers["risk_at_100%"]
    assert abs(numbers["risk_at_100%"] - (1 - numbers["accuracy"])) < 1e-3


def test_a_sigmoid_asks_of_each_class_alone() -> None:
    sigmoid = SimilaritySpec("sigmoid", 10.0, 0.0, "")
    assert np.allclose(to_probabilities(np.zeros((1, 3)), sigmoid), 0.5)
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 3), scale=1, loc=-2)
    own = rng.random(logits.shape) < to_probabilities(logits, sigmoid)
    one = own.sum(axis=1) == 1
    truth = own[one].argmax(axis=1)
    fitted, stretched = (fit_temperature(k * logits[one], truth, sigmoid) for k in (1, 3))
    assert abs(stretched / fitted - 3) < 0.3


def test_surer_is_told_apart_where_probabilities_round_to_one() -> None:
    """The order is that of the top probabilities, and goes on where these are all 1."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(200, 6), scale=3)
    for similarity in (SOFTMAX, SimilaritySpec("sigmoid", 10.0, 0.0, "")):
        top = to_probabilities(logits, similarity).max(axis=1)
        sureness = measure_sureness(logits, similarity)
        assert (np.argsort(sureness) == np.argsort(top)).all()
    far = np.array([[90.0, 0.0], [95.0, 0.0]])
    assert (to_probabilities(far, SOFTMAX).max(axis=1) == 1).all()
    assert np.diff(measure_sureness(far, SOFTMAX)) == 5


def test_the_open_risk_counts_every_answer_to_a_picture_of_no_offered_class() -> None:
    """Four right and sure, four of no class and unsure; an answer to all of them errs by half."""
    top = np.array([0.9, 0.9, 0.8, 0.8, 0.3, 0.3, 0.2, 0.2])
    risks = measure_risks(top, top > 0.5, "open_risk")
    assert risks == {"open_risk_at_50%": 0.0, "open_risk_at_80%": 0.3333, "open_risk_at_100%": 0.5}
    sheet = write_calibration(make_material(), TEMPLATES, 0)
    numbers = judge_calibration("calibration", sheet, draw_rows(sheet, 1), 0).numbers
    unknown = sum(not question.right for question in sheet.questions) / len(sheet.questions)
    wrong = unknown + (1 - unknown) * numbers["risk_at_100%"]
    assert abs(numbers["open_risk_at_100%"] - wrong) < 0.1  # risks are of every second picture


def test_the_worst_cases_are_pictures_of_no_offered_class_called_one_surely() -> None:
    sheet = write_calibration(make_material(), TEMPLATES, 0)
    result = judge_calibration("calibration", sheet, draw_rows(sheet, 1), 0)
    offered = {wording[0] for wording in sheet.texts}
    assert len(result.worst) == 10
    for case in result.worst:
        assert case.right == "none of these" and case.said in offered
        assert case.asked.removeprefix("picture of ") not in offered
    margins = [case.margin for case in result.worst]
    assert margins == sorted(margins)
