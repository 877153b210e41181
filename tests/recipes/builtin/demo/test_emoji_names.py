"""Names of emoji are those of the package, and of the demo's characters alone."""

from __future__ import annotations

from pathlib import Path

from recipes.builtin.demo.emoji_names import choose_names, write_names
from twinlens.demo.emoji import NAMES, list_names

LABELS = (
    {"unicode": "❤\ufe0f", "label": "red heart"},
    {"unicode": "🐶", "label": "dog face"},
    {"unicode": "👩\u200d🚀", "label": "woman astronaut"},
)


def test_a_character_has_its_label_with_or_without_the_mark_of_an_emoji() -> None:
    assert list(choose_names(LABELS).items()) == [("❤", "red heart"), ("🐶", "dog face")]


def test_sequences_of_characters_have_no_name() -> None:
    assert "woman astronaut" not in choose_names(LABELS).values()


def test_the_file_that_ships_is_as_the_recipe_writes_it(tmp_path: Path) -> None:
    write_names(list_names(), tmp_path / "names.json")
    assert (tmp_path / "names.json").read_bytes() == NAMES.read_bytes()
