"""Hostile and broken files: each gives a clear error before any costly work, without a warning."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundle.image.made_images import encode, picture, spec
from twinlens.bundle.image.image_source import ImageLimits, open_image
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import ImageError, InputError, TooLargeError

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF"]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body)


def gif(width: int, height: int, *, x: int = 0, y: int = 0, screen: int = 4) -> bytes:
    """Return a GIF whose frame may lie outside its screen, with truncated pixels."""
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    comment = b"!\xfe\x05hello\x00"
    return head + comment + b"," + struct.pack("<4HB", x, y, width, height, 0) + b"\x02\x01\x00;"


def webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def claims(width: int, height: int) -> dict[str, bytes]:
    """Return small files whose headers claim this many pixels."""
    jpeg = bytearray(encode(picture(8, 8), "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", height, width)
    bmp = bytearray(encode(picture(8, 8), "BMP"))
    bmp[18:26] = struct.pack("<ii", width, height)
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    bits = (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14
    return {
        "JPEG": bytes(jpeg),
        "PNG": png_header(width, height) + chunk(b"IDAT", zlib.compress(bytes(100))),
        "BMP": bytes(bmp),
        "GIF": gif(width, height),
        "GIF beside its screen": gif(1, 1, x=width - 1, y=height - 1),
        "WebP": webp(b"VP8X", bytes(4) + canvas),
        "lossless WebP": webp(b"VP8L", b"\x2f" + bits.to_bytes(4, "little") + bytes(5)),
        "lossy WebP": webp(
            b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(8)
        ),
    }


@pytest.mark.parametrize("name", claims(9, 9))
def test_a_bomb_is_refused_by_its_header_before_it_takes_memory_or_time(name: str) -> None:
    data = claims(16_000, 16_000)[name]
    tracemalloc.start()
    before = time.process_time()
    with pytest.raises(TooLargeError, match=r"16000 x 16000 pixels; the limit is \d+"):
        Preprocessor(spec())(data)
    spent, (_, peak) = time.process_time() - before, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 0.5
    assert peak < 1 << 20


# Not JPEG and not the one-pixel GIF: their decoders fill in missing data.
@pytest.mark.parametrize("name", sorted(claims(9, 9).keys() - {"JPEG", "GIF beside its screen"}))
def test_a_header_within_the_limits_over_broken_pixels_is_an_image_error(name: str) -> None:
    with pytest.raises(ImageError, match="cannot be decoded"):
        Preprocessor(spec())(claims(300, 200)[name])


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_is_an_image_error_or_still_decodable(format: str) -> None:
    data = encode(picture(90, 70), format)
    refused = 0
    for end in [*range(0, 60, 3), *range(60, len(data), len(data) // 40)]:
        try:
            assert Preprocessor(spec())(data[:end]).shape == (64, 64, 3)
        except ImageError as error:
            refused += 1
            assert error.field == "image"
            assert "\n" not in error.message
    assert refused > 40  # of some 60


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_bytes_never_raise_anything_but_an_image_error(format: str) -> None:
    rng = random.Random(format)
    preprocess = Preprocessor(spec(), fast=True, limits=ImageLimits(max_pixels=1 << 20))
    good = encode(picture(60, 50), format)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            # Mostly in the header, which holds the structure.
            place = rng.randrange(len(data) if rng.random() < 0.3 else min(len(data), 120))
            data[place] = rng.randrange(256)
        with contextlib.suppress(ImageError, TooLargeError):
            preprocess(bytes(data))


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"hello, world", b"%PDF-1.7", b"<svg></svg>", b"II*\x00" + bytes(50), b"BM",
     b"MM\x00*", b"\x00\x00\x00\x18ftypavif", b"\x00\x00\x00\x18ftypheic" + bytes(40),
     b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBP", bytes(1000)],
)  # fmt: skip
def test_data_that_is_not_an_image_is_an_image_error(data: bytes) -> None:
    for source in (data, bytearray(data), memoryview(data)):
        with pytest.raises(ImageError):
            Preprocessor(spec())(source)


def test_a_format_that_is_not_listed_is_refused_though_pillow_reads_it() -> None:
    known = "is not one of JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC"
    for format in ("PPM", "ICO", "TGA", "EPS", "JPEG2000", "PDF", "PCX"):
        with pytest.raises(ImageError, match=known):
            Preprocessor(spec())(encode(picture(32, 32), format))
    for data in (b"8BPS\x00\x01" + bytes(40), b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6"):
        with pytest.raises(ImageError, match=known):
            Preprocessor(spec())(data)


def test_no_other_decoder_of_pillow_is_loaded() -> None:
    script = """
import sys
import twinlens.bundle.image.preprocessing
loaded = {name for name in sys.modules if name.startswith("PIL.") and "ImagePlugin" in name}
kinds = {name.removeprefix("PIL.").removesuffix("ImagePlugin") for name in loaded}
assert kinds <= {"Avif", "Bmp", "Gif", "Jpeg", "Png", "Tiff", "WebP", "Mpo"}, kinds
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_an_endless_device_is_read_only_up_to_the_limit() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero here")
    with pytest.raises(TooLargeError, match="more than 1000 bytes"):
        open_image("/dev/zero", ImageLimits(max_bytes=1000))


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    data = encode(picture(90, 70), "PNG")
    for content in (data[: len(data) // 2], data[:20], b"text", b""):
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"photo\.png "):
            Preprocessor(spec())(path)
    path.write_bytes(data)
    with pytest.raises(TooLargeError, match=r"photo\.png has 90 x 70"):
        Preprocessor(spec(), limits=ImageLimits(max_pixels=100))(str(path))


def test_a_truncated_pillow_image_is_an_image_error() -> None:
    data = encode(picture(90, 70), "PNG")
    with pytest.raises(ImageError, match="cannot be decoded"):
        Preprocessor(spec())(Image.open(BytesIO(data[: len(data) // 2])))


def test_damaged_exif_means_no_rotation_and_no_warning() -> None:
    plain = encode(picture(90, 70), "JPEG")
    preprocess = Preprocessor(spec(), fast=True)  # which reads EXIF before the pixels
    expected = preprocess(plain)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    exif[0x010E] = "a description that lies outside of the directory"
    whole = exif.tobytes()
    for block in [whole[:end] for end in range(6, 22, 3)] + [
        b"Exif\x00\x00garbage",
        b"Exif\x00\x00",
    ]:
        given = preprocess(encode(picture(90, 70), "JPEG", exif=block))
        assert (given == expected).all()
    # The entry is complete, the rest is truncated: Pillow would warn.
    for end in range(40, len(whole)):
        Preprocessor(spec())(encode(picture(90, 70), "JPEG", exif=whole[:end]))


@pytest.mark.parametrize(
    "control",
    [chunk(b"acTL", struct.pack(">II", 0, 0)), chunk(b"acTL", struct.pack(">II", 2, 0)) * 2,
     chunk(b"acTL", b"short"), chunk(b"fcTL", bytes(26)) + chunk(b"acTL", bytes(8))],
)  # fmt: skip
def test_a_png_with_a_broken_animation_is_decoded_as_its_still_image(control: bytes) -> None:
    still = encode(picture(40, 30), "PNG")
    broken = still[:33] + control + still[33:]
    assert (Preprocessor(spec())(broken) == Preprocessor(spec())(still)).all()


def test_a_jpeg_with_several_images_is_decoded_as_its_first() -> None:
    first, second = picture(40, 30, seed=1), picture(40, 30, seed=2)
    data = encode(first, "MPO", save_all=True, append_images=[second])
    alone = encode(first, "JPEG")
    assert (Preprocessor(spec())(data) == Preprocessor(spec())(alone)).all()


@pytest.mark.parametrize("behind", ["a film", "the next picture of a stream"])
def test_a_jpeg_with_more_behind_it_is_decoded_as_its_first(behind: str) -> None:
    still = encode(picture(40, 30), "JPEG")
    film = b"\x00\x00\x00\x18ftypmp42" + bytes(5000)
    more = film if behind == "a film" else encode(picture(90, 70), "JPEG")
    assert (Preprocessor(spec())(still + more) == Preprocessor(spec())(still)).all()


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_palette_with_transparency_is_read_without_it(format: str) -> None:
    image = picture(40, 30, "P")
    clear = bytes(range(256)) if format == "PNG" else 3
    given = Preprocessor(spec())(encode(image, format, transparency=clear))
    assert (given == Preprocessor(spec())(encode(image, format))).all()


def test_sixteen_bit_pictures_have_the_levels_of_eight_bits() -> None:
    grey = picture(40, 30, "L")
    deep = encode(picture(40, 30, "I;16"), "PNG")
    assert (Preprocessor(spec())(deep) == Preprocessor(spec())(encode(grey, "PNG"))).all()
    colour = np.asarray(picture(40, 30))
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in colour)
    header = struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)
    deep = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    given = Preprocessor(spec())(deep + chunk(b"IEND", b""))
    assert (given == Preprocessor(spec())(encode(picture(40, 30), "PNG"))).all()


def test_a_text_bomb_in_a_png_is_an_image_error() -> None:
    text = chunk(b"zTXt", b"note\x00\x00" + zlib.compress(bytes(80 << 20)))
    still = encode(picture(40, 30), "PNG")
    with pytest.raises(InputError):
        Preprocessor(spec())(still[:33] + text + still[33:])


def test_an_image_one_pixel_high_and_very_wide_takes_little_memory() -> None:
    data = encode(picture(30_000, 1), "PNG")
    before = time.process_time()
    assert Preprocessor(spec(height=224, width=224, resize_to=224))(data).shape == (224, 224, 3)
    assert time.process_time() - before < 1  # resizing it whole would make 1.5 billion pixels
