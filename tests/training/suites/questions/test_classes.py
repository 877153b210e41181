"""What each template adds to the bare name, on answers that are known."""

from __future__ import annotations

import numpy as np

from tests.training.suites.exhibits import SOFTMAX, make_material
from twinlens.bundle.classes import normalise_rows
from twinlens.training.suites.examinee import EmbeddedSheet
from twinlens.training.suites.questions.classes import (
    BARE,
    OWN,
    TEMPLATES,
    judge_templates,
    write_templates,
)


def test_a_template_that_reads_the_answers_gains_all_that_the_bare_name_lacks() -> None:
    """Texts of one template lie where their pictures lie, all other texts anywhere."""
    rng = np.random.default_rng(0)
    sheet = write_templates(make_material(), ("a {} of mine",), 0)
    best = TEMPLATES[3]
    axes = {
        min(question.right): axis
        for axis, question in enumerate(sheet.questions)
        if question.group == best
    }
    numbers = {text: place for place, text in enumerate(axes)}
    pictures = np.zeros((len(sheet.pictures), len(numbers)), np.float32)
    texts = rng.standard_normal((len(sheet.texts), len(numbers))).astype(np.float32)
    for question in sheet.questions:
        if question.group == best:
            pictures[question.query, numbers[min(question.right)]] = 1
    texts[list(numbers)] = np.eye(len(numbers))
    rows = EmbeddedSheet(pictures, normalise_rows(texts), SOFTMAX)
    result = judge_templates("templates", sheet, rows, 0)
    gain = result.numbers[f"gain: {best}"]
    assert result.groups[best].score == 1.0
    assert gain == round(1 - result.groups[BARE].score, 4) > 0.3
    low, high = (result.numbers[f"gain: {best} ({end})"] for end in ("low", "high"))
    assert 0 < low < gain < high
    assert f"gain: {OWN}" in result.numbers and f"gain: {BARE}" not in result.numbers
