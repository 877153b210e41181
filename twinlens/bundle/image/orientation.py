"""The orientation of an image from its EXIF or XMP block, or from the boxes of its file.

Cameras store pixels in the sensor's orientation and leave the rotation to the viewer. What must
stay true: a damaged block means "upright", never an error or a warning; no image is rotated twice.
"""

from __future__ import annotations

import re

from PIL import Image

from twinlens.bundle.image.avif import ROTATION
from twinlens.bundle.image.exif import find_exif
from twinlens.bundle.image.tiff_block import open_block

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


def read_orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8; 1 (upright) if it is missing or damaged.

    It is that of EXIF, except in HEIC and AVIF, where boxes of the file define it and EXIF's is
    ignored: HEIC is upright after decoding, AVIF needs the rotation of its boxes.
    """
    info = image.info
    if image.format in ("HEIC", "HEIF"):
        return UPRIGHT
    if ROTATION in info:
        return int(info[ROTATION])
    exif = find_exif(image)
    orientation = None if exif is None else _find_in_exif(exif)
    if orientation is None:
        orientation = _find_in_xmp(info.get("xmp") or info.get("XML:com.adobe.xmp"))
    return orientation if orientation in _TURNS else UPRIGHT


def turns_sideways(orientation: int) -> bool:
    """Return whether the orientation swaps width and height."""
    return orientation >= 5


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image rotated and mirrored according to `orientation`."""
    return image if orientation == UPRIGHT else image.transpose(_TURNS[orientation])


def _find_in_exif(exif: bytes) -> int | None:
    """Return the orientation entry of the first directory of a TIFF block."""
    block = open_block(exif)
    entry = block.directory(block.first).get(_ORIENTATION_TAG) if block else None
    if block is None or entry is None or entry.count != 1:
        return None
    return next(iter(block.integers(entry)), None)


def _find_in_xmp(xmp: object) -> int | None:
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "replace")
    found = _XMP_ORIENTATION.search(xmp) if isinstance(xmp, bytes) else None
    return int(found.group(1)) if found else None
