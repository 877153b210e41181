"""What cosines are worth by the number of candidates, and the extension that says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import TOY_MANIFEST
from twinlens.bundle.calibration.calibration import (
    EXTENSION,
    Calibration,
    Evidence,
    find_evidence,
    read_calibration,
)
from twinlens.errors import BundleError

CALIBRATION = Calibration(
    2.0,
    (Evidence(1, 0.3, 0.4, 20.0), Evidence(4, 0.5, 0.6, 40.0)),
    (Evidence(1, 0.2, 0.3, 10.0), Evidence(16, 0.6, 0.7, 10.0)),
    (0.5,) * 9,
    (0.1,) * 9,
    {"photos": {"texts": "labels", "pictures": 50, "different": 5}},
    {"classes": 5, "ece": 0.3, "ece_calibrated": 0.1, "mistakes": 0.09, "refusals": 0.2},
)


def test_a_calibration_is_read_as_it_was_written() -> None:
    extensions = {EXTENSION: CALIBRATION.to_extension()}
    assert read_calibration(replace(TOY_MANIFEST, extensions=extensions)) == CALIBRATION
    assert read_calibration(TOY_MANIFEST) is None
    later = {EXTENSION: {"kind": "of a later version"}}
    assert read_calibration(replace(TOY_MANIFEST, extensions=later)) is None


@pytest.mark.parametrize(
    "fault", [{"classes": [[2, 0.1, 0.2]]}, {"temperature": 0}, {"classes": []}, {"search": "x"}]
)
def test_a_damaged_calibration_names_the_remedy(fault: dict[str, object]) -> None:
    extensions = {EXTENSION: CALIBRATION.to_extension() | fault}
    with pytest.raises(BundleError, match="twinlens calibrate BUNDLE DATA"):
        read_calibration(replace(TOY_MANIFEST, extensions=extensions))


def test_an_origin_is_kept_and_must_be_as_long_as_a_row() -> None:
    origin = tuple(0.1 for _ in range(TOY_MANIFEST.embedding_dim))
    levelled = replace(CALIBRATION, origin=origin)
    extensions = {EXTENSION: levelled.to_extension()}
    assert read_calibration(replace(TOY_MANIFEST, extensions=extensions)) == levelled
    extensions = {EXTENSION: replace(levelled, origin=(*origin, 0.1)).to_extension()}
    with pytest.raises(BundleError, match="origin has"):
        read_calibration(replace(TOY_MANIFEST, extensions=extensions))


def test_what_a_cosine_has_over_its_pictures_level_is_judged() -> None:
    """A picture that lies 0.2 higher above all texts must show 0.2 more; ratios stay."""
    levelled = replace(CALIBRATION, origin=(0.5, 0.0))
    pictures = np.array([[0.4, 0.9], [0.0, 1.0]], np.float32)
    level, none = levelled.find_levels(pictures)
    assert (level, none) == pytest.approx((0.2, 0.0))
    assert list(CALIBRATION.find_levels(pictures)) == [0.0, 0.0]
    cosines = np.array([0.6, 0.5, 0.0, -0.2], np.float32)
    for alone in (False, True):
        low = levelled.judge_classes(cosines, 10.0, level=none, independent=alone)
        high = levelled.judge_classes(cosines + 0.2, 10.0, level=level, independent=alone)
        assert high.probabilities == pytest.approx(low.probabilities, abs=1e-5)
        assert not high.none_of_these
        assert levelled.judge_classes(cosines, 10.0, level=level, independent=alone).none_of_these


def test_between_and_beyond_what_was_measured_the_logarithm_counts() -> None:
    """Two candidates lie halfway between one and four; 16 as far beyond four as one before."""
    halfway = find_evidence(CALIBRATION.classes, 2)
    assert (halfway.limit, halfway.middle, halfway.slope) == pytest.approx((0.4, 0.5, 30.0))
    beyond = find_evidence(CALIBRATION.classes, 16)
    assert (beyond.limit, beyond.middle, beyond.slope) == pytest.approx((0.7, 0.8, 40.0))
    assert find_evidence(CALIBRATION.classes, 4) == CALIBRATION.classes[1]


def test_probabilities_share_what_none_of_these_leaves() -> None:
    """At the middle of four the best is as likely as none; by scale 10 over T 2, e to 5 x 0.1."""
    cosines = np.array([0.6, 0.5, 0.0, -0.2], np.float32)
    verdict = CALIBRATION.judge_classes(cosines, 10.0)
    assert verdict.probabilities.sum() == pytest.approx(0.5, abs=1e-6)
    assert verdict.probabilities[0] / verdict.probabilities[1] == pytest.approx(np.exp(0.5))
    assert not verdict.none_of_these
    assert CALIBRATION.judge_classes(cosines - 0.11, 10.0).none_of_these


def test_independent_classes_are_each_weighed_alone() -> None:
    """By the curve of one candidate, while "none of these" goes by the number offered."""
    cosines = np.array([0.4, 0.45, 0.3, 0.2], np.float32)
    verdict = CALIBRATION.judge_classes(cosines, 10.0, independent=True)
    assert verdict.probabilities == pytest.approx(1 / (1 + np.exp(-20 * (cosines - 0.4))), abs=1e-5)
    assert verdict.none_of_these


def test_the_more_is_searched_the_more_a_hit_must_show() -> None:
    hits = np.array([0.55, 0.5], np.float32)
    assert not CALIBRATION.judge_hits(hits, 4).none_of_these
    assert CALIBRATION.judge_hits(hits, 16).none_of_these
    few, many = (CALIBRATION.judge_hits(hits, n).probabilities for n in (4, 16))
    assert (few > many).all() and few[0] > few[1]
    assert CALIBRATION.judge_hits(hits[:0], 16).none_of_these
