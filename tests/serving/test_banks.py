"""What stands for no class in particular, whatever the templates are."""

from __future__ import annotations

import pytest

from twinlens.serving.banks import name_nothing


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        (["a photo of a {}", "a {} icon"], ["a photo of a ", "a  icon"]),
        (["{}", " {} ", "an emoji of {}"], ["an emoji of "]),
        (["{}"], ["something"]),
    ],
)
def test_no_prompt_is_ever_empty(templates: list[str], expected: list[str]) -> None:
    assert name_nothing(templates) == expected
