"""HEIC through the extra `heic`: turned once, first image only, and a clear error without it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.bundle.image.made_images import encode, picture, spec
from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image import heic
from twinlens.bundle.image.image_source import ImageLimits, open_image
from twinlens.bundle.image.orientation import read_orientation
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import ImageError, MissingDependencyError, TooLargeError

pillow_heif = pytest.importorskip("pillow_heif")


def decode(data: bytes) -> Pixels:
    return Preprocessor(spec())(data)


def write(*images: Image.Image, exif: bytes | None = None, **options: object) -> bytes:
    """Return a HEIC without loss; its boxes turn it as `exif` says."""
    out = io.BytesIO()
    made = pillow_heif.from_pillow(images[0])
    for image in images[1:]:
        made.add_from_pillow(image)
    made[0].info["exif"] = exif
    made.save(out, quality=-1, chroma=444, **options)
    return out.getvalue()


def difference(given: Pixels, expected: Pixels) -> float:
    return float(np.abs(given.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
def test_an_image_is_read(mode: str) -> None:
    image = picture(90, 70, mode)
    assert difference(decode(write(image)), Preprocessor(spec())(image)) < 3
    assert open_image(write(image), ImageLimits()).format == "HEIC"


def test_the_main_image_of_several_is_read() -> None:
    first, second = picture(90, 70, seed=1), picture(90, 70, seed=2)
    expected = Preprocessor(spec())(second)
    assert difference(decode(write(first, second, primary_index=1)), expected) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_an_image_once_whatever_exif_says(orientation: int) -> None:
    image = picture(90, 70)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = Preprocessor(spec())(encode(image, "PNG", exif=exif))
    data = write(image, exif=exif.tobytes())
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    assert difference(decode(data), expected) < 3
    # EXIF alone turns nothing: the format leaves that to boxes. pillow-heif sets back only SHORTs.
    for kind, width in ((3, "H2x"), (4, "I")):
        entry, turned = (struct.pack(">HHI" + width, 0x0112, kind, 1, n) for n in (1, orientation))
        block = struct.pack(">2sHIH", b"MM", 42, 8, 1) + entry + bytes(4)
        upright = write(image, exif=b"Exif\x00\x00" + block)
        assert upright.count(entry) == 1
        told = upright.replace(entry, turned)
        assert difference(decode(told), Preprocessor(spec())(image)) < 3


def test_an_image_that_the_plugin_opened_is_not_turned_again() -> None:
    image = picture(90, 70)
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = pillow_heif.HeifImageFile(io.BytesIO(write(image)))
    opened.info["exif"] = exif.tobytes()
    assert read_orientation(opened) == 1


def test_limits_hold_for_the_box_and_for_the_picture_inside() -> None:
    data = write(Image.new("RGB", (2000, 1500)))
    with pytest.raises(TooLargeError, match="2000 x 1500"):
        open_image(data, ImageLimits(max_pixels=1_000_000))
    lying = bytearray(data)
    place = lying.index(b"ispe") + 8
    lying[place : place + 8] = struct.pack(">II", 64, 64)
    with pytest.raises(ImageError, match="cannot be decoded"):
        Preprocessor(spec(), limits=ImageLimits(max_pixels=1_000_000))(bytes(lying))


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic._load_class.cache_clear()
    yield
    heic._load_class.cache_clear()


def test_without_the_extra_the_error_names_it(without_the_extra: None) -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'twinlens\[heic\]'"):
        decode(write(picture(90, 70)))


def test_the_library_is_loaded_by_the_first_heic_and_registered_nowhere() -> None:
    script = """
import sys
from io import BytesIO
from PIL import Image
from twinlens.bundle.image.image_source import ImageLimits, open_image
out = BytesIO(); Image.new("RGB", (8, 8)).save(out, "PNG")
open_image(out.getvalue(), ImageLimits())
assert "pillow_heif" not in sys.modules
open_image(sys.stdin.buffer.read(), ImageLimits())
assert "pillow_heif" in sys.modules
Image.init()
assert "HEIF" not in Image.OPEN
"""
    data = write(picture(20, 20))
    subprocess.run([sys.executable, "-c", script], input=data, check=True, timeout=60)
