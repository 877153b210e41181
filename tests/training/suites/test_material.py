"""Pictures of the data as they are read and changed: upright, tinted, written on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinlens.errors import InputError
from twinlens.training.suites.material import decode_picture, read_material
from twinlens.training.suites.questions.association import find_thing, tint_picture
from twinlens.training.suites.questions.relations import draw_scene
from twinlens.training.suites.questions.typographic import write_on


def test_a_picture_is_read_upright_on_white_and_bounded() -> None:
    image = Image.new("RGBA", (600, 300), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    shown = decode_picture(buffer.getvalue(), 100)
    assert shown.size == (100, 200) and shown.getpixel((5, 5)) == (255, 255, 255)


def test_a_tint_keeps_white_and_black_and_turns_the_rest() -> None:
    image = Image.fromarray(np.array([[[255] * 3, [0] * 3, [253, 203, 88]]], np.uint8))
    white, black, middle = np.asarray(tint_picture(image, "blue"), int)[0]
    assert white.tolist() == [255] * 3 and black.tolist() == [0] * 3
    assert middle[2] > middle[0] + 20


def test_things_are_found_by_whole_words_and_one_at_a_time() -> None:
    assert find_thing(["A lemon."]) == "lemon"
    assert find_thing(["red fire truck"]) == "fire truck"
    assert find_thing(["a lemonade"]) is None and find_thing(["a lemon and a frog"]) is None


def test_a_word_changes_the_lower_part_alone() -> None:
    plain = Image.new("RGB", (224, 224), "green")
    written = np.asarray(write_on(plain, "a very long name of a thing"))
    assert (written[:150] == np.asarray(plain)[:150]).all()
    strip = written[160:200]
    assert (strip == 255).all(axis=2).any() and (strip < 60).all(axis=2).any()


def test_left_is_left_in_a_scene() -> None:
    scene = draw_scene([("red", "square", (10, 60, 70)), ("blue", "square", (110, 60, 70))])
    left, right = scene.getpixel((45, 95)), scene.getpixel((145, 95))
    assert isinstance(left, tuple) and isinstance(right, tuple)
    assert left[0] > left[2] and right[2] > right[0]


def test_pictures_that_do_not_decode_are_counted_and_left_out(tmp_path: Path) -> None:
    for place in range(4):
        Image.new("RGB", (8, 8), (60 * place, 0, 0)).save(tmp_path / f"{place}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "2.txt").write_text("a dark square")
    found = read_material(str(tmp_path), 0)
    assert (len(found.exhibits), found.unreadable, found.has) == (
        4,
        1,
        frozenset({"pictures", "captions"}),
    )
    assert len(read_material(str(tmp_path), 2).exhibits) <= 2


def test_data_without_a_picture_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="can be decoded"):
        read_material(str(tmp_path), 0)
