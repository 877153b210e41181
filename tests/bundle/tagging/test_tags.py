"""Tags by cosine, their probabilities, and the words that they are chosen from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.calibration.test_calibration import CALIBRATION
from twinlens.bundle.calibration.calibration import Evidence
from twinlens.bundle.tagging.lexicon import read_lexicon, read_words
from twinlens.bundle.tagging.tags import rank_tags
from twinlens.errors import InputError

WORDS = ("dog", "cat", "sun", "moon")
COSINES = np.array([0.2, 0.5, 0.4, -0.1], np.float32)


def test_the_nearest_words_come_first_without_a_probability() -> None:
    found = rank_tags(WORDS, COSINES, None, 2)
    assert [tag.word for tag in found.tags] == ["cat", "sun"]
    assert [tag.probability for tag in found.tags] == [None, None]
    assert found.none_of_these is None


def test_a_word_is_worth_less_among_more_words() -> None:
    """At the middle of four a word is as likely as not, and less likely among 400."""
    evidence = (Evidence(4, 0.45, 0.5, 30.0), Evidence(400, 0.65, 0.7, 30.0))
    calibration = replace(CALIBRATION, classes=evidence)
    few = rank_tags(WORDS, COSINES, calibration, 1)
    assert few.tags[0].probability == pytest.approx(0.5, abs=1e-6)
    assert few.none_of_these is False
    many = rank_tags(WORDS * 100, np.tile(COSINES, 100), calibration, 1)
    assert many.tags[0].probability == pytest.approx(1 / (1 + np.exp(6)), rel=1e-3)
    assert many.none_of_these is True


def test_a_word_is_judged_over_the_level_of_its_picture() -> None:
    calibration = replace(CALIBRATION, classes=(Evidence(4, 0.45, 0.5, 30.0),))
    plain = rank_tags(WORDS, COSINES, calibration, 2)
    higher = rank_tags(WORDS, COSINES + 0.2, calibration, 2, level=0.2)
    assert [tag.probability for tag in higher.tags] == pytest.approx(
        [tag.probability for tag in plain.tags], abs=1e-5
    )
    assert [tag.similarity for tag in higher.tags] == pytest.approx([0.7, 0.6])
    assert higher.none_of_these is False
    assert rank_tags(WORDS, COSINES, calibration, 2, level=0.2).none_of_these is True


def test_the_shipped_words_are_many_and_different() -> None:
    words = read_lexicon()
    assert len(words) > 700 and len(set(map(str.lower, words))) == len(words)
    assert {"dog", "bicycle", "ice cream"} <= set(words)
    assert all(word == word.strip() and word for word in words)


def test_a_file_has_a_word_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("dog\n\n  red car \ndog\n")
    assert read_words(file) == ("dog", "red car")
    for text, message in (("\n", "has 0 words"), ("x" * 300, "300 characters")):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_words(file)
    with pytest.raises(InputError, match="is not a file"):
        read_words(tmp_path / "none.txt")
