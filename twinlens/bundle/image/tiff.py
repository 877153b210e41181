"""The first page of a TIFF file, opened only from the entries that describe its pixels.

What must stay true: Pillow and libtiff see one directory, written anew here, with the listed
entries and compressions and no other. So further pages, EXIF, tags that share bytes and rare codecs
reach neither, and Pillow emits no warnings. The rows of a strip and the sides of a tile are bounded
like those of the image.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

from PIL import Image, TiffImagePlugin, _imaging

from twinlens.bundle.image.tiff_block import Entry, TiffBlock, open_block
from twinlens.errors import ImageError

STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# In `info`: the file, in the form of an EXIF block, and (bits, whether 0 is white).
BLOCK, LEVELS = "tiff_block", "tiff_levels"

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_TILE_WIDTH, _TILE_HEIGHT, _SUB_PAGES, _SAMPLE_FORMAT = 322, 323, 330, 339
_PAGE_KIND, _DNG_VERSION, _SAMPLES = 254, 50706, 277
_MOST_SAMPLES = 6
# Strips (273, 278, 279), samples (277, 284, 338), fill order, fax options, predictor, palette,
# tiles (322 to 325), JPEG tables, YCbCr.
_KEPT = frozenset(
    {
        _WIDTH,
        _HEIGHT,
        _BITS,
        _COMPRESSION,
        _PHOTOMETRIC,
        266,
        273,
        _SAMPLES,
        278,
        279,
        284,
        292,
        293,
    }
    | {317, 320, _TILE_WIDTH, _TILE_HEIGHT, 324, 325, 338, _SAMPLE_FORMAT, 347, 529, 530, 531, 532}
)
# Entries with one value: Pillow takes the first of several, and warns.
_SINGLE = frozenset(
    {_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, 278, 284, 292, 293, 317}
    | {_TILE_WIDTH, _TILE_HEIGHT}
)
_LONG_KINDS = (16, 18)
_COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 7: "JPEG",
    8: "deflate", 32773: "PackBits", 32946: "deflate",
}  # fmt: skip


def open_tiff(data: bytes, name: str, check: Callable[[int, int], None]) -> Image.Image:
    """Return the first page, not yet decoded; `check` is called with width and height."""
    block = open_block(data)
    entries = block.directory(block.first) if block else {}
    if block is None or not entries:
        raise ImageError(f"{name} cannot be decoded: a TIFF without a directory", field="image")
    _refuse_raw(block, entries, name)
    _refuse_compression(_integer(block, entries, _COMPRESSION, 1), name)
    samples = _integer(block, entries, _SAMPLES, 1)
    if samples > _MOST_SAMPLES:
        raise ImageError(
            f"{name} is a TIFF with {samples} samples a pixel; save it as grey, RGB or CMYK",
            field="image",
        )
    check(_integer(block, entries, _WIDTH), _integer(block, entries, _HEIGHT))
    if _TILE_WIDTH in entries or _TILE_HEIGHT in entries:
        check(_integer(block, entries, _TILE_WIDTH), _integer(block, entries, _TILE_HEIGHT))
    _silence_libtiff()
    bits = _integer(block, entries, _BITS, 1)
    try:
        image = TiffImagePlugin.TiffImageFile(BytesIO(_write_directory(block, entries, name)))
    except SyntaxError as error:
        raise ImageError(
            f"{name} is a TIFF with samples of {bits} bits that cannot be read ({error}); save it"
            " with 8 or 16 bits a sample",
            field="image",
        ) from error
    image.info[BLOCK] = data  # not as "exif": Pillow would rotate the image by it
    image.info[LEVELS] = bits, _integer(block, entries, _PHOTOMETRIC, 0) == 0
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Silence libtiff: a client could otherwise fill the log with its messages on damaged files."""
    with contextlib.suppress(OSError, AttributeError):  # no libtiff, or linked differently
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def _refuse_raw(block: TiffBlock, entries: dict[int, Entry], name: str) -> None:
    """Refuse camera files in TIFF form: their first page is at best a preview."""
    is_preview = _integer(block, entries, _PAGE_KIND, 0) & 1 and _SUB_PAGES in entries
    is_canon = block.data[8:10] == b"CR" and not block.is_big
    if _DNG_VERSION in entries or is_preview or is_canon:
        raise ImageError(
            f"{name} is a camera's raw file (DNG, NEF, CR2 or similar); export it as JPEG or TIFF",
            field="image",
        )


def _refuse_compression(compression: int, name: str) -> None:
    if compression not in _COMPRESSIONS:
        known = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise ImageError(
            f"{name} is a TIFF with compression {compression}; save it with one of {known}",
            field="image",
        )


def _integer(block: TiffBlock, entries: dict[int, Entry], tag: int, default: int = 0) -> int:
    return next(iter(block.integers(entries.get(tag), 1)), default)


def _write_directory(block: TiffBlock, entries: dict[int, Entry], name: str) -> bytes:
    """Return the file with a new first directory at its end, of the kept entries.

    BigTIFF becomes classic TIFF, since Pillow cannot read all of it.
    """
    data, order = block.data, block.order
    kept = {tag: entry for tag, entry in sorted(entries.items()) if tag in _KEPT}
    if sum(entry.size for entry in kept.values()) > len(data):
        raise ImageError(f"{name} cannot be decoded: TIFF tags that overlap", field="image")
    at = len(data) + len(data) % 2
    behind = at + 6 + 12 * len(kept)  # for values that do not fit into an entry
    rows, values = [], []
    for tag, entry in kept.items():
        if tag in _SINGLE:
            entry = replace(entry, count=1, size=entry.size // entry.count)
        kind, value = _narrow(block, entry)
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", behind)
        rows.append(struct.pack(order + "HHI", tag, kind, entry.count) + place)
        if len(value) > 4:
            values.append(value + bytes(len(value) % 2))
            behind += len(values[-1])
    return b"".join(
        [
            STARTS[0] if order == "<" else STARTS[1],
            struct.pack(order + "I", at),
            data[8:] + bytes(len(data) % 2),
            struct.pack(order + "H", len(rows)),
            *rows,
            bytes(4),
            *values,
        ]
    )


def _narrow(block: TiffBlock, entry: Entry) -> tuple[int, bytes]:
    """Return kind and value in classic TIFF's form: without 64-bit integers."""
    if entry.kind not in _LONG_KINDS:
        return entry.kind, block.data[entry.place : entry.place + entry.size]
    wide = block.integers(entry, entry.count)
    return 4, struct.pack(f"{block.order}{len(wide)}I", *wide)
