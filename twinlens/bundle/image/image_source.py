"""Opens images of every accepted type within limits: bytes, a path, a PIL image, an array.

What must stay true: bytes and pixels are checked against the limits before anything is decoded;
only the formats listed here are parsed; every fault of a file is an `ImageError`, never a Pillow
exception or a warning.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from twinlens.bundle.image.avif import open_avif
from twinlens.bundle.image.boxes import find_brand
from twinlens.bundle.image.heic import open_heic
from twinlens.bundle.image.tiff import STARTS as TIFF_STARTS
from twinlens.bundle.image.tiff import open_tiff
from twinlens.errors import ImageError, InputError, NotFoundError, TooLargeError

ImageSource = (
    bytes | bytearray | memoryview | str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]
)

FORMATS = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "AVIF", "HEIC")
# Endings of file names; the data decide the format.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif",
    ".tiff", ".avif", ".heic", ".heif", ".hif",
)  # fmt: skip
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    **dict.fromkeys(TIFF_STARTS, "TIFF"),
}
_MEGA = 1 << 20

CheckSize = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageLimits:
    """Limits of one image. The defaults admit a 64-megapixel photograph."""

    max_bytes: int = 64 * _MEGA
    max_pixels: int = 64 * _MEGA


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image whose header was read, for one use: whoever gets it may decode it in place."""

    image: Image.Image


def name_source(source: object) -> str:
    """Return the name of an image for errors: its path, or "image"."""
    return str(source) if isinstance(source, (str, os.PathLike)) else "image"


def open_image(source: ImageSource | OpenedImage, limits: ImageLimits) -> Image.Image:
    """Return the image with its header read and checked, its pixels not yet decoded."""
    if isinstance(source, OpenedImage):
        image = source.image
    elif isinstance(source, Image.Image):
        image = source
    elif isinstance(source, np.ndarray):
        image = _wrap_array(source, limits)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        image = _open_bytes(bytes(source), "image", limits)
    elif isinstance(source, (str, os.PathLike)):
        image = _open_bytes(_read_file(Path(source), limits), name_source(source), limits)
    else:
        raise InputError(
            f"image is of type {type(source).__name__}; expected encoded bytes, a path, "
            "a PIL image or a uint8 array",
            field="image",
        )
    _check_pixels(*image.size, name_source(source), limits)
    return image


@contextmanager
def decoding(name: str = "image") -> Iterator[None]:
    """Turn any exception of Pillow on a bad file into an `ImageError`."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # plugins raise errors of struct, zlib and their C code
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} cannot be decoded: {reason}", field="image") from error


class _QuietJpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG whose resolution is not read from EXIF, since damaged EXIF makes Pillow warn."""

    def _read_dpi_from_exif(self) -> None:
        """Leave the resolution unknown: it is not used."""


_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": _QuietJpeg,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}


def _open_bytes(data: bytes, name: str, limits: ImageLimits) -> Image.Image:
    if len(data) > limits.max_bytes:
        raise TooLargeError(
            f"{name} has {len(data)} bytes; the limit is {limits.max_bytes}", field="image"
        )
    format = find_format(data)
    if format is None:
        raise ImageError(
            f"{name} is not one of {', '.join(FORMATS)}"
            + (f": it begins with {data[:8]!r}" if data else ": it is empty"),
            field="image",
        )

    def check(width: int, height: int) -> None:
        _check_pixels(width, height, name, limits)

    with decoding(name):
        return _open_format(format, data, name, check)


def _open_format(format: str, data: bytes, name: str, check: CheckSize) -> Image.Image:
    """Open data of a known format.

    Not `Image.open`: it tries every installed plugin, and warns by its own limit. If opening
    allocates by the sizes in a header, or decoding by other sizes than the header's, those are
    checked here.
    """
    match format:
        case "TIFF":
            return open_tiff(data, name, check)
        case "AVIF":
            return open_avif(data, name, check)
        case "HEIC":
            return open_heic(data, name)
        case "WebP":
            check(*_read_webp_size(data))
        case "GIF":
            check(*_read_gif_size(data))
        case "PNG" if b"acTL" in data:
            data = _drop_animation(data)
    return _OPENERS[format](BytesIO(data))


def find_format(data: bytes) -> str | None:
    """Return which of `FORMATS` the data are, by their first bytes; None for other data."""
    for start, format in _STARTS.items():
        if data.startswith(start):
            return format
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return find_brand(data)


def _check_pixels(width: int, height: int, name: str, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"{name} has {width} x {height} pixels; the limit is {limits.max_pixels} in all",
            field="image",
        )
    if width < 1 or height < 1:
        raise ImageError(f"{name} has {width} x {height} pixels; it is empty", field="image")


def _read_webp_size(data: bytes) -> tuple[int, int]:
    """Return the size of the canvas, or (1, 1) for malformed data, which libwebp rejects."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 1, 1
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    bits = int.from_bytes(body[6:10], "little")
    return max(1, bits & 0x3FFF), max(1, bits >> 16 & 0x3FFF)


def _read_gif_size(data: bytes) -> tuple[int, int]:
    """Return the size that the first frame needs: it may extend beyond its screen."""
    if len(data) < 13:
        return 1, 1
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[place : place + 1] == b"!":  # extensions: a label, then blocks up to an empty one
        place += 2
        while place < len(data) and data[place]:
            place += data[place] + 1
        place += 1
    if data[place : place + 1] == b"," and len(data) >= place + 9:
        x, y, w, h = (
            int.from_bytes(data[place + i : place + i + 2], "little") for i in (1, 3, 5, 7)
        )
        width, height = max(width, x + w), max(height, y + h)
    return max(1, width), max(1, height)


def _drop_animation(data: bytes) -> bytes:
    """Return a PNG without its animation chunks: only its still image."""
    chunks, place = [data[:8]], 8
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] not in (b"acTL", b"fcTL", b"fdAT"):
            chunks.append(data[place:end])
        place = end
    return b"".join(chunks)


def _wrap_array(array: npt.NDArray[np.uint8], limits: ImageLimits) -> Image.Image:
    shape = " x ".join(map(str, array.shape))
    if array.dtype != np.uint8:
        raise InputError(
            f"image is an array of {array.dtype}; expected uint8, grey levels 0 to 255",
            field="image",
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise InputError(
            f"image is an array of shape {shape}; expected (height, width), "
            "(height, width, 3) or (height, width, 4)",
            field="image",
        )
    _check_pixels(array.shape[1], array.shape[0], "image", limits)
    return Image.fromarray(np.ascontiguousarray(array))


def _read_file(path: Path, limits: ImageLimits) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # A pipe or a device has no size: read one byte over the limit, not to its end.
            data = file.read(limits.max_bytes + 1) if size <= limits.max_bytes else b""
    except FileNotFoundError:
        raise NotFoundError(f"image {path} does not exist", field="image") from None
    except (OSError, ValueError) as error:
        raise InputError(f"image {path} cannot be read: {error}", field="image") from error
    if max(size, len(data)) > limits.max_bytes:
        raise TooLargeError(
            f"{path} has more than {limits.max_bytes} bytes, which is the limit", field="image"
        )
    return data
