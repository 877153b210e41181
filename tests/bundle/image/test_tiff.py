"""TIFF files of other writers: their first page, at the levels it was meant to have."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from tests.bundle.image.made_images import encode, picture, pixels, spec
from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image.image_source import ImageLimits, open_image
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import ImageError, TooLargeError

GREY = np.asarray(picture(120, 90, "L"))
COLOUR = pixels(120, 90)
GREY16 = GREY.astype(np.uint16) * 257


def write(levels: npt.NDArray[Any], **options: Any) -> bytes:
    """Return a TIFF written by tifffile."""
    out = io.BytesIO()
    tifffile.imwrite(out, levels, **options)
    return out.getvalue()


def decode(data: bytes) -> Pixels:
    return Preprocessor(spec())(data)


GREYS: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {
    "8 bits": (GREY, {}),
    "8 bits in tiles": (GREY, {"tile": (64, 32)}),
    "8 bits, 0 is white": (255 - GREY, {"photometric": "miniswhite"}),
    "16 bits": (GREY16, {}),
    "16 bits, big endian": (GREY16, {"byteorder": ">"}),
    "16 bits, BigTIFF": (GREY16, {"bigtiff": True}),
    "16 bits, big endian BigTIFF in strips": (
        GREY16,
        {"bigtiff": True, "byteorder": ">", "rowsperstrip": 7},
    ),
    "16 bits, 0 is white": (65535 - GREY16, {"photometric": "miniswhite"}),
    "16 bits, deflate in tiles": (GREY16, {"tile": (32, 64), "compression": "deflate"}),
    "16 bits, deflate with predictor": (GREY16, {"compression": "deflate", "predictor": True}),
    "32-bit integers": (GREY16.astype(np.uint32), {}),
    "floats to 1": ((GREY / 255).astype(np.float32), {}),
    "floats to 1, 0 is white": ((1 - GREY / 255).astype(np.float32), {"photometric": "miniswhite"}),
    "floats to 255": (GREY.astype(np.float32), {}),
    "floats to 65535, big endian": (GREY16.astype(np.float32), {"byteorder": ">"}),
    "floats in deflate": ((GREY / 255).astype(np.float32), {"compression": "deflate"}),
    "three pages": (np.stack([GREY, 255 - GREY, GREY]), {"photometric": "minisblack"}),
}


@pytest.mark.parametrize("name", GREYS)
def test_grey_of_every_depth_has_the_levels_of_8_bits(name: str) -> None:
    levels, options = GREYS[name]
    given, expected = decode(write(levels, **options)), decode(encode_grey())
    assert int(np.abs(given.astype(int) - expected.astype(int)).max()) <= 1


def encode_grey() -> bytes:
    return encode(Image.fromarray(GREY), "PNG")


COLOURS: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {
    "8 bits": (COLOUR, {}),
    "16 bits": (COLOUR.astype(np.uint16) * 257, {}),
    "planes": (np.moveaxis(COLOUR, 2, 0), {"planarconfig": "separate"}),
    "with alpha": (
        np.dstack([COLOUR, np.full_like(GREY, 255)]),
        {"extrasamples": ["unassalpha"]},
    ),
    "16 bits, BigTIFF, tiles": (
        COLOUR.astype(np.uint16) * 257,
        {"bigtiff": True, "tile": (32, 32), "compression": "deflate"},
    ),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colour_of_every_layout_has_the_same_pixels(name: str) -> None:
    levels, options = COLOURS[name]
    expected = decode(encode(Image.fromarray(COLOUR), "PNG"))
    assert (decode(write(levels, photometric="rgb", **options)) == expected).all()


@pytest.mark.parametrize(
    ("compression", "tolerance"),
    [(None, 0), ("tiff_lzw", 0), ("tiff_adobe_deflate", 0), ("tiff_deflate", 0), ("packbits", 0),
     ("jpeg", 40)],
)  # fmt: skip
def test_every_listed_compression_is_read(compression: str | None, tolerance: int) -> None:
    options = {"quality": 95} if compression == "jpeg" else {}
    given = decode(encode(Image.fromarray(COLOUR), "TIFF", compression=compression, **options))
    expected = decode(encode(Image.fromarray(COLOUR), "PNG"))
    assert int(np.abs(given.astype(int) - expected.astype(int)).max()) <= tolerance


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "RGBA", "LA"])
def test_every_mode_of_pillow_reads_as_pillow_wrote_it(mode: str) -> None:
    image = picture(90, 70, mode)
    options = {"compression": "group4"} if mode == "1" else {}
    assert (decode(encode(image, "TIFF", **options)) == Preprocessor(spec())(image)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_turned_page_is_turned_once(orientation: int, compression: str | None) -> None:
    image = picture(90, 70)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encode(image, "TIFF", exif=exif, compression=compression)
    turned = encode(image, "PNG", exif=exif)
    assert (decode(stored) == decode(turned)).all()


@pytest.mark.parametrize("compression", ["lzma", "zstd", "webp", 6, 50002])
def test_a_compression_that_is_not_listed_is_refused_by_its_number(compression: str | int) -> None:
    if isinstance(compression, str):
        try:
            data = encode(Image.fromarray(COLOUR), "TIFF", compression=compression)
        except OSError:
            pytest.skip(f"this Pillow cannot write {compression}")
    else:
        data = write(GREY, extratags=[(259, 3, 1, compression, True)])
        place = data.index(struct.pack("<HHIH", 259, 3, 1, 1))
        data = data[: place + 8] + struct.pack("<H", compression) + data[place + 10 :]
    with pytest.raises(ImageError, match=r"a TIFF with compression \d+; save it with one of none"):
        decode(data)


def test_a_camera_s_raw_file_is_refused_and_not_read_as_its_preview() -> None:
    dng = write(GREY, extratags=[(50706, 1, 4, (1, 4, 0, 0), True)])
    nef = io.BytesIO()  # like NEF and ARW: a preview with the sensor's page below it
    with tifffile.TiffWriter(nef) as writer:
        writer.write(GREY[:8, :8], subfiletype=1, subifds=1)
        writer.write(GREY)
    plain = write(GREY)
    cr2 = plain[:8] + b"CR" + plain[10:]
    for data in (dng, nef.getvalue(), cr2):
        with pytest.raises(ImageError, match="a camera's raw file"):
            decode(data)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int64])
def test_samples_that_cannot_be_read_are_named_with_the_remedy(kind: Any) -> None:
    with pytest.raises(ImageError, match=r"samples of \d+ bits .* save it with 8 or 16 bits"):
        decode(write((GREY / 255).astype(kind)))


def test_a_picture_of_many_bands_is_refused_with_their_number() -> None:
    with pytest.raises(ImageError, match="8 samples a pixel; save it as grey, RGB or CMYK"):
        decode(write(np.dstack([GREY] * 8), photometric="minisblack", planarconfig="contig"))


@pytest.mark.parametrize("levels", [[-1.0, 2.0], [0.0, 1e9], [0.0, float("nan")]])
def test_floats_without_a_known_range_are_refused(levels: list[float]) -> None:
    with pytest.raises(ImageError, match="expected 0 to 1, to 255 or to 65535"):
        decode(write(np.array([levels], np.float32)))


def test_a_page_and_a_tile_over_the_limit_are_refused_before_they_take_memory() -> None:
    page = write(GREY)
    tile = write(GREY, tile=(64, 64), compression="deflate")
    wide = _set(_set(page, 256, 60_000), 257, 60_000)
    huge = _set(_set(tile, 322, 60_000), 323, 60_000)
    for data in (wide, huge):
        tracemalloc.start()
        with pytest.raises(TooLargeError, match="60000 x 60000"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def _set(data: bytes, tag: int, value: int) -> bytes:
    """Return the file with an integer of its first directory replaced."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for number in range(count):
        place = start + 2 + 12 * number
        found, kind = struct.unpack_from("<HH", data, place)
        if found == tag:
            packed = struct.pack("<I" if kind == 4 else "<H2x", value)
            return data[: place + 8] + packed + data[place + 12 :]
    raise AssertionError(f"no tag {tag}")


def test_tags_that_share_their_bytes_cost_no_more_than_the_file() -> None:
    body = bytes(2 << 20)
    rows = [struct.pack("<HHII", 40_000 + n, 7, len(body), 8) for n in range(3000)]
    rows = [struct.pack("<HHII", 256, 4, 1, 4), struct.pack("<HHII", 257, 4, 1, 4), *rows]
    shared = [struct.pack("<HHII", tag, 1, len(body), 8) for tag in (273, 279, 324, 325)]
    for extra, wanted in ((rows, "cannot be"), ([*rows[:2], *shared], "tags that overlap")):
        table = struct.pack("<H", len(extra)) + b"".join(extra) + bytes(4)
        data = b"II*\x00" + struct.pack("<I", 8 + len(body)) + body + table
        tracemalloc.start()
        before = time.process_time()
        with pytest.raises(ImageError, match=wanted):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        assert time.process_time() - before < 1
        tracemalloc.stop()


def test_further_pages_are_not_read_and_may_be_damaged() -> None:
    data = write(np.stack([GREY, 255 - GREY]))
    pages = tifffile.TiffFile(io.BytesIO(data)).pages
    assert len(pages) == 2
    cut = data[: pages[1].dataoffsets[0]]
    assert (decode(cut) == decode(encode_grey())).all()


def test_the_header_of_a_tiff_is_enough_for_its_size() -> None:
    assert open_image(write(COLOUR), ImageLimits()).size == (120, 90)
    assert open_image(write(COLOUR), ImageLimits()).format == "TIFF"
