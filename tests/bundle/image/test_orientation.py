"""Orientation is read from EXIF, XMP and PNG text; what is damaged means upright."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from twinlens.bundle.image.orientation import read_orientation


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "letter"), [(1, "B3x"), (3, "H2x"), (4, "I")])
def test_orientation_is_read_in_either_byte_order_and_any_integer_type(
    order: str, kind: int, letter: str
) -> None:
    for value, seen in [(1, 1), (3, 3), (8, 8), (0, 1), (9, 1), (200, 1)]:
        entry = struct.pack(order + "HHI" + letter, 0x0112, kind, 1, value)
        block = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, 1) + entry
        image = Image.new("RGB", (2, 1))
        image.info["exif"] = b"Exif\x00\x00" + block
        assert read_orientation(image) == seen


def test_orientation_is_read_from_xmp_and_from_png_text() -> None:
    image = Image.new("RGB", (2, 1))
    image.info["xmp"] = b'<rdf:Description tiff:Orientation="6" />'
    assert read_orientation(image) == 6
    image.info = {"XML:com.adobe.xmp": "<tiff:Orientation>8</tiff:Orientation>"}
    assert read_orientation(image) == 8
    exif = Image.Exif()
    exif[0x0112] = 5
    image.info = {"Raw profile type exif": f"\nexif\n  99\n{exif.tobytes().hex()}\n"}
    assert read_orientation(image) == 5
    image.info = {"Raw profile type exif": "\nexif\n  9\nnot hex"}
    assert read_orientation(image) == 1
