"""Class banks: every prompt in its place, and rows that equal the protocol written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import build_class_bank, fill_templates, normalise_rows
from twinlens.errors import InputError

NAMES = st.lists(st.text("abc {}", min_size=1).filter(str.strip), min_size=1, max_size=5)
TEMPLATES = st.lists(st.sampled_from(["{}", "a {}.", "{} {{", "no {} yet"]), min_size=1, max_size=4)


def embed(prompts: list[str]) -> Rows:
    """Return a unit row for each prompt that depends on all of its text."""
    rows = [np.random.default_rng(list(p.encode())).standard_normal(8) for p in prompts]
    return normalise_rows(np.asarray(rows, np.float32))


@given(NAMES, TEMPLATES)
def test_a_row_is_the_normalised_mean_of_its_prompts(
    classes: list[str], templates: list[str]
) -> None:
    bank = build_class_bank(embed, classes, templates)
    for row, name in zip(bank, classes, strict=True):
        prompts = [name.join(template.split("{}", 1)) for template in templates]
        mean = sum(embed([prompt])[0].astype(np.float64) for prompt in prompts) / len(prompts)
        assert np.allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


@given(NAMES, TEMPLATES)
def test_prompts_stand_class_by_class(classes: list[str], templates: list[str]) -> None:
    """A name goes in as it is, braces included, and once."""
    prompts = fill_templates(classes, templates)
    assert len(prompts) == len(classes) * len(templates)
    for i, name in enumerate(classes):
        own = prompts[i * len(templates) : (i + 1) * len(templates)]
        assert [len(p) for p in own] == [len(t) - 2 + len(name) for t in templates]
        assert all(name in prompt for prompt in own)


@pytest.mark.parametrize(
    ("classes", "templates", "field"),
    [
        ([], ["{}"], "classes"),
        ("cat", ["{}"], "classes"),
        (["cat", " "], ["{}"], "classes[1]"),
        (["cat"], [], "templates"),
        (["cat"], ["{}", "a photo"], "templates[1]"),
        (["cat"], ["{} and {}"], "templates[0]"),
    ],
)
def test_what_is_no_class_set_is_refused_by_its_place(
    classes: list[str], templates: list[str], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        fill_templates(classes, templates)
    assert caught.value.field == field


def test_a_row_of_zeros_stays_zero() -> None:
    rows = normalise_rows(np.array([[0, 0], [3, 4]], np.float32))
    assert rows.tolist() == [[0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]
