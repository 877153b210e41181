"""AVIF: stills and sequences, turned by their boxes, and frames larger than their boxes say."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from tests.bundle.image.made_images import encode, picture, spec
from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image.avif import _Bits, _coded_sizes, _read_frame_size
from twinlens.bundle.image.boxes import find_box, find_brand, read_item_data
from twinlens.bundle.image.image_source import ImageLimits, open_image
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import ImageError, TooLargeError

pytestmark = pytest.mark.skipif(not AvifImagePlugin.SUPPORTED, reason="Pillow without AVIF")


def decode(data: bytes) -> Pixels:
    return Preprocessor(spec())(data)


def write(image: Image.Image, **options: object) -> bytes:
    return encode(image, "AVIF", quality=95, subsampling="4:4:4", speed=8, **options)


def difference(given: Pixels, expected: Pixels) -> float:
    return float(np.abs(given.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_still_image_is_read(mode: str) -> None:
    image = picture(90, 70, mode)
    assert difference(decode(write(image)), Preprocessor(spec())(image)) < 3
    assert open_image(write(image), ImageLimits()).format == "AVIF"


def test_a_sequence_is_read_as_its_first_frame() -> None:
    first, second = picture(90, 70, seed=1), picture(90, 70, seed=2)
    data = write(first, save_all=True, append_images=[second, second])
    assert data[8:12] == b"avis"
    assert difference(decode(data), Preprocessor(spec())(first)) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_an_image_once_whatever_exif_says(orientation: int) -> None:
    image = picture(90, 70)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = Preprocessor(spec())(encode(image, "PNG", exif=exif))
    data = write(image, exif=exif)  # Pillow writes it as boxes
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    assert difference(decode(data), expected) < 3
    # EXIF alone turns nothing: the format leaves that to boxes.
    other = struct.pack(">HHIH", 0x0128, 3, 1, orientation)  # a unit: Pillow keeps the orientation
    note = Image.Exif()
    note[0x0128] = orientation
    told = write(image, exif=note)
    assert told.count(other) == 1
    told = told.replace(other, struct.pack(">H", 0x0112) + other[2:])
    assert difference(decode(told), Preprocessor(spec())(image)) < 3


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 63), (1000, 3), (4000, 2300)])
def test_the_size_of_a_frame_is_read_from_its_own_header(size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size, (9, 200, 30)), "AVIF", speed=10)
    meta = find_box(data, (b"meta",), 0, len(data))
    assert meta is not None
    sizes = [one for item in read_item_data(data, meta).values() for one in _coded_sizes(item)]
    assert sizes == [size]


def test_a_frame_larger_than_its_box_says_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encode(Image.new("RGB", (9000, 9000)), "AVIF", speed=10, quality=30))
    place = data.index(b"ispe") + 8
    data[place : place + 8] = struct.pack(">II", 64, 64)
    assert len(data) < 4096
    with pytest.raises(TooLargeError, match="9000 x 9000"):
        open_image(bytes(data), ImageLimits())


def test_a_header_with_more_bits_than_its_size_needs_counts_for_what_they_allow() -> None:
    def header(bits: int, size: int) -> bytes:
        fields = [(0, 3), (1, 1), (1, 1), (0, 5), (bits - 1, 4), (bits - 1, 4)]
        fields += [(size - 1, bits), (size - 1, bits)]
        text = "".join(f"{value:0{width}b}" for value, width in fields)
        return int(text.ljust(128, "0"), 2).to_bytes(16, "big")

    assert _read_frame_size(_Bits(header(10, 1000))) == (1000, 1000)
    assert _read_frame_size(_Bits(header(16, 1000))) == (65536, 65536)


def test_a_sequence_without_a_still_image_is_refused_with_its_reason() -> None:
    frames = [picture(90, 70, seed=2)]
    data = write(picture(90, 70), save_all=True, append_images=frames)
    with pytest.raises(ImageError, match="without a still image"):
        decode(data.replace(b"meta", b"free", 1))


def test_brands_tell_avif_from_heic_and_from_films() -> None:
    def start(*brands: bytes) -> bytes:
        body = brands[0] + bytes(4) + b"".join(brands[1:])
        return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + b"avif"  # behind the box

    assert find_brand(start(b"avif", b"mif1")) == "AVIF"
    assert find_brand(start(b"mif1", b"miaf", b"avif")) == "AVIF"
    assert find_brand(start(b"heic", b"mif1")) == "HEIC"
    assert find_brand(start(b"mif1", b"heic")) == "HEIC"
    assert find_brand(start(b"isom", b"mp42")) is None
    assert find_brand(b"ftypavif") is None
