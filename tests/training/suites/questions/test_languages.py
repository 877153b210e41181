"""Languages: gaps to English of an encoder that reads English alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.training.suites.exhibits import TEMPLATES, draw_rows, make_material
from twinlens.training.suites.questions.languages import judge_languages, write_languages

MATERIAL = make_material(60)


def test_a_language_that_is_not_read_lies_behind_english() -> None:
    """Pictures have the row of their English name; other names have random rows."""
    sheet = write_languages(MATERIAL, TEMPLATES, 0)
    rows = draw_rows(sheet, 3)
    english = {q.query: min(q.right) for q in sheet.questions if q.group == "en"}
    pictures = np.stack([rows.texts[english[place]] for place in range(len(sheet.pictures))])
    result = judge_languages("languages", sheet, replace(rows, pictures=pictures), 0)
    assert result.groups["en"].score == 1.0
    assert result.measure.score < 0.2
    for language in ("de", "ja"):
        gap = 1 - result.groups[language].score
        assert abs(result.numbers[f"gap_{language}"] - gap) < 1e-3
        assert 0.7 < result.numbers[f"gap_{language}_low"] <= gap


def test_english_is_shown_and_not_counted() -> None:
    sheet = write_languages(MATERIAL, TEMPLATES, 0)
    assert {q.group for q in sheet.questions if q.control} == {"en"}
    assert {q.group for q in sheet.questions if not q.control} == {"de", "ja"}


def test_pictures_whose_name_a_language_lacks_are_left_out() -> None:
    lost = MATERIAL.exhibits[0].captions[0]
    tables = {
        language: {name: word for name, word in names.items() if name != lost}
        for language, names in MATERIAL.translations.items()
    }
    sheet = write_languages(replace(MATERIAL, translations=tables), TEMPLATES, 0)
    assert lost not in {wording[0] for wording in sheet.texts}
    assert len(sheet.pictures) == sum(e.captions[0] != lost for e in MATERIAL.exhibits)


def test_things_of_one_name_are_both_right() -> None:
    """Where a language has one word for two things, either picture is called right by it."""
    first, second = (exhibit.captions[0] for exhibit in MATERIAL.exhibits[:2])
    tables = {"de": {**MATERIAL.translations["de"], second: f"{first} (de)"}}
    sheet = write_languages(replace(MATERIAL, translations=tables), TEMPLATES, 0)
    asked = {q.query: q for q in sheet.questions if q.group == "de"}
    assert asked[0].right == asked[1].right
