"""Resizes the visible part of an RGB picture in C, without the interpreter lock.

The library is compiled when the package is built. If it is missing, or disagrees with the installed
Pillow at its first use, everything works, only slower. What must stay true: the same bits as
Pillow's own `resize`, or None, and then Pillow resizes.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from twinlens.bundle.arrays import Pixels

log = logging.getLogger(__name__)

_FILTERS = ("BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS")
_TALL = 100  # Pillow 12 resizes columns first in pictures higher than this many widths
_BAND_BYTES = 8 << 20  # Pillow stores a larger picture in several pieces of memory
_PILLOW_PIXEL = 4  # bytes of a pixel in Pillow's memory


class _Axis(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int32),
        ("from", ctypes.c_float),
        ("to", ctypes.c_float),
        ("out", ctypes.c_int32),
        ("skip", ctypes.c_int32),
        ("length", ctypes.c_int32),
    )


@dataclass(frozen=True)
class Stretch:
    """One axis: the box from `start` to `stop` becomes `out` pixels; `length` from `skip` are used.

    `start` and `stop` are relative to the source pixel `first`; `size` source pixels may be read.
    """

    first: int
    size: int
    start: float
    stop: float
    out: int
    skip: int
    length: int

    def _to_c(self) -> _Axis:
        return _Axis(self.size, self.start, self.stop, self.out, self.skip, self.length)


def resize_visible(
    image: Image.Image, x: Stretch, y: Stretch, filter: Image.Resampling
) -> Pixels | None:
    """Return the visible part (y.length, x.length, 3), or None if only Pillow can compute it."""
    library = _agreeing_library()
    if library is None or not _is_suitable(image, x, y, filter):
        return None
    try:
        return _resize(library, image, x, y, filter)
    except ValueError:  # Pillow stores pictures in pieces, if PILLOW_BLOCK_SIZE says so
        return None


def _is_suitable(image: Image.Image, x: Stretch, y: Stretch, filter: Image.Resampling) -> bool:
    is_known = image.mode == "RGB" and filter.name in _FILTERS
    return is_known and not _is_columns_first(x, y)


def _is_columns_first(x: Stretch, y: Stretch) -> bool:
    """Return whether a version of Pillow resizes columns first, which gives other bits."""
    if y.size > _TALL * x.size:
        return True
    return any(
        y.out < height and height - y.out > 2 * (width - x.out)  # Pillow 13
        for width, height in ((x.size, y.size), (x.stop - x.start, y.stop - y.start))
    )


def _resize(
    library: ctypes.CDLL, image: Image.Image, x: Stretch, y: Stretch, filter: int
) -> Pixels | None:
    across, down = x._to_c(), y._to_c()
    seen = np.empty((y.length, x.length, 3), np.uint8)
    if image.width * image.height * _PILLOW_PIXEL > _BAND_BYTES:
        failed = _resize_bands(library, image, x.first, y.first, across, down, filter, seen)
    else:
        failed = library.twinlens_resize(
            *(_Arrow(image), image.width, x.first, y.first, across, down, filter, seen.ctypes.data)
        )
    return None if failed else seen


def _resize_bands(
    library: ctypes.CDLL,
    image: Image.Image,
    left: int,
    top: int,
    across: _Axis,
    down: _Axis,
    filter: int,
    seen: Pixels,
) -> int:
    """Resize rows band by band, then the columns of all; return 0, or -1."""
    first, last = ctypes.c_int32(), ctypes.c_int32()
    if library.twinlens_needed_rows(down, filter, ctypes.byref(first), ctypes.byref(last)):
        return -1
    rows, pitch = last.value - first.value, library.twinlens_pitch(across.length)
    middle = np.empty((rows, pitch), np.uint8)
    step = max(1, _BAND_BYTES // (_PILLOW_PIXEL * across.size))
    for start in range(0, rows, step):
        count = min(step, rows - start)
        upper = top + first.value + start
        band = image.crop((left, upper, left + across.size, upper + count))
        if library.twinlens_resize_rows(
            *(_Arrow(band), band.width, 0, 0, count, across, filter, middle[start].ctypes.data)
        ):
            return -1
    return int(
        library.twinlens_resize_columns(
            *(middle.ctypes.data, first.value, rows, across.length, down, filter, seen.ctypes.data)
        )
    )


class _Arrow:
    """A picture's pixels as an Arrow array, valid as long as this object lives."""

    def __init__(self, image: Image.Image) -> None:
        _, self._capsule = image.__arrow_c_array__()
        self._as_parameter_ = ctypes.c_void_p(_pointer_of(self._capsule, b"arrow_array"))


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = (ctypes.py_object, ctypes.c_char_p)


@functools.cache
def _agreeing_library() -> ctypes.CDLL | None:
    """Return the library if it exists and gives the bits of the installed Pillow."""
    library = _load(Path(__file__).parent)
    if library is not None and not _agrees(library):
        log.warning("the compiled resize differs from Pillow %s; not used", PIL.__version__)
        return None
    return library


def _load(folder: Path) -> ctypes.CDLL | None:
    for path in sorted(folder.glob("_resample*")):
        if path.suffix in (".so", ".pyd"):
            try:
                library = ctypes.CDLL(str(path))
            except OSError as error:  # compiled for another machine
                log.warning("the compiled resize does not load; not used: %s", error)
                return None
            return _declare(library)
    return None


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    axis, number, memory = ctypes.POINTER(_Axis), ctypes.c_int32, ctypes.c_void_p
    library.twinlens_pitch.restype = ctypes.c_size_t
    library.twinlens_pitch.argtypes = (number,)
    library.twinlens_needed_rows.argtypes = (axis, number, memory, memory)
    library.twinlens_resize_rows.argtypes = (
        *(memory, number, number, number, number, axis, number, memory),
    )
    library.twinlens_resize_columns.argtypes = (
        *(memory, number, number, number, axis, number, memory),
    )
    library.twinlens_resize.argtypes = (
        *(memory, number, number, number, axis, axis, number, memory),
    )
    return library


def _agrees(library: ctypes.CDLL) -> bool:
    """Compare both on a small picture of noise, shrunk and enlarged by every filter."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    image = Image.fromarray(noise)
    for filter in (Image.Resampling[name] for name in _FILTERS):
        for width, height in ((16, 11), (71, 64)):
            x = Stretch(0, 53, 0, 53, width, 0, width)
            y = Stretch(0, 37, 0, 37, height, 0, height)
            ours = _resize(library, image, x, y, filter)
            if ours is None or not np.array_equal(
                ours, np.asarray(image.resize((width, height), filter))
            ):
                return False
    return True
