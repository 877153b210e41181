"""Winoground's three scores on pairs whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.suites.exhibits import SOFTMAX, TEMPLATES, make_material
from twinlens.training.suites.examinee import EmbeddedSheet
from twinlens.training.suites.material import Material
from twinlens.training.suites.questions.pairs import CHANCE, SCENES, judge_pairs, write_pairs
from twinlens.training.suites.questions.relations import TWINS, draw_twins
from twinlens.training.suites.result import Result


def judge(cosines: list[list[float]]) -> Result:
    """Judge one pair by its cosines, pictures by captions."""
    sheet = write_pairs(make_material(2), TEMPLATES, 0)
    wanted = np.array(cosines)
    rows = EmbeddedSheet(wanted.astype(np.float32), np.eye(2, dtype=np.float32), SOFTMAX)
    return judge_pairs("pairs", sheet, rows, 0)


@pytest.mark.parametrize(
    ("cosines", "text", "image", "group"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], 1, 1, 1),
        ([[0.9, 0.1], [0.95, 0.96]], 1, 0, 0),  # the second picture is nearer to both captions
        ([[0.5, 0.6], [0.1, 0.7]], 0, 1, 0),  # the second caption is nearer to both pictures
        ([[0.1, 0.9], [0.9, 0.1]], 0, 0, 0),
    ],
)
def test_the_scores_are_winogrounds(
    cosines: list[list[float]], text: int, image: int, group: int
) -> None:
    result = judge(cosines)
    assert (result.groups["text"].score, result.groups["image"].score) == (text, image)
    assert result.measure.score == group


def test_chance_is_a_quarter_a_quarter_and_a_sixth() -> None:
    """Counted over the orders of four cosines: 6, 6 and 4 of 24."""
    rng = np.random.default_rng(0)
    found = [judge(rng.random((2, 2)).tolist()) for _ in range(1500)]
    means = {
        "text": np.mean([r.groups["text"].score for r in found]),
        "image": np.mean([r.groups["image"].score for r in found]),
        "group": np.mean([r.measure.score for r in found]),
    }
    for name, chance in CHANCE.items():
        assert abs(means[name] - chance) < 0.04


def test_folders_of_more_than_two_are_no_pairs() -> None:
    material = make_material(6)
    assert len(material.pairs) == 3 and "pairs" in material.has
    moved = tuple(
        type(e)(e.key.replace("1/", "0/a"), e.picture, e.label, e.captions)
        for e in material.exhibits
    )
    crowded = Material(
        "crowded",
        tuple(type(e)(f"x/{i}", e.picture, e.label, e.captions) for i, e in enumerate(moved)),
    )
    assert crowded.pairs == {} and "pairs" not in crowded.has


def test_drawn_twins_have_the_same_words_and_are_rearranged_pictures() -> None:
    rng = np.random.default_rng(1)
    for group in TWINS:
        (first, caption), (last, other) = draw_twins(group, rng)
        words = [sorted(text.replace("an ", "a ").split()) for text in (caption, other)]
        assert words[0] == words[1] and caption != other
        before, after = np.asarray(first), np.asarray(last)
        assert (before != after).any()
        ink = [(pixels < 250).any(axis=2).sum() for pixels in (before, after)]
        assert abs(ink[0] - ink[1]) < 0.6 * max(ink), "the same two shapes"


def test_without_pairs_in_the_data_scenes_are_drawn() -> None:
    sheet = write_pairs(Material("no data"), TEMPLATES, 0)
    clusters = {question.cluster for question in sheet.questions}
    assert len(clusters) == SCENES * len(TWINS) and len(sheet.questions) == 4 * len(clusters)
