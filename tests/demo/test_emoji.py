"""The system's emoji font; tests that draw with one are skipped without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ImageChops

from twinlens.demo.corpus import name_file
from twinlens.demo.emoji import EmojiFont, find_font, list_names


@pytest.fixture(scope="module")
def font() -> EmojiFont:
    found = find_font()
    if found is None:
        pytest.skip("this system has no colour emoji font that can be drawn with")
    return found


def test_the_list_contains_emoji_by_their_cldr_names_but_no_skin_tones_or_letters() -> None:
    names = list_names()
    called = [names[one] for one in "\N{HEAVY BLACK HEART}\N{PILE OF POO}\N{ROCKET}"]
    assert called == ["red heart", "pile of poo", "rocket"]
    assert "\N{EMOJI MODIFIER FITZPATRICK TYPE-3}" not in names
    assert not any(character.isalnum() for character in names)


def test_no_two_emoji_share_a_name_or_a_file() -> None:
    names = list(list_names().values())
    assert len(set(names)) == len({name_file(name).lower() for name in names}) == len(names)
    assert not any(set(name_file(name)) & set('/\\:*?"<>|!') for name in names)


def test_a_file_that_is_not_a_font_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "NotoColorEmoji.ttf"
    path.write_bytes(b"not a font")
    with pytest.raises(OSError, match="cannot be opened"):
        EmojiFont(path)


def test_the_font_draws_different_images_for_different_emoji(font: EmojiFont) -> None:
    pictures = []
    for picture in font.draw_all(32):
        pictures.append(picture)
        if len(pictures) == 20:
            break
    first, *others = pictures
    for other in others:
        assert ImageChops.difference(first.image, other.image).getbbox(), other.name
    assert all(picture.image.size == (32, 32) for picture in pictures)
    assert first.name == "watch"
    assert first.character == "\N{WATCH}"
