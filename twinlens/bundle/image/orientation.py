"""The orientation of an image from its EXIF or XMP block.

Cameras store pixels in the sensor's orientation and leave the rotation to the viewer. Must stay
true: a damaged block means "upright", never an error or a warning; so it is read here, in forty
lines, and not by Pillow's TIFF parser, which warns.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

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
_INTEGER_TYPES = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if it is missing or damaged."""
    info = image.info
    exif = info.get("exif")
    if exif is None and "Raw profile type exif" in info:
        exif = _unpack_text_profile(info["Raw profile type exif"])
    orientation = _find_in_exif(exif) if isinstance(exif, bytes) else None
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
    tiff = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for i in range(count):
            place = start + 2 + 12 * i
            tag, kind, length = struct.unpack_from(order + "HHI", tiff, place)
            if tag == _ORIENTATION_TAG and kind in _INTEGER_TYPES and length == 1:
                (value,) = struct.unpack_from(order + _INTEGER_TYPES[kind], tiff, place + 8)
                return int(value)
    except struct.error:  # the block is truncated
        return None
    return None


def _find_in_xmp(xmp: object) -> int | None:
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "replace")
    found = _XMP_ORIENTATION.search(xmp) if isinstance(xmp, bytes) else None
    return int(found.group(1)) if found else None


def _unpack_text_profile(profile: object) -> bytes | None:
    """Return the EXIF block that ImageMagick writes into PNG text: three lines, then hex."""
    try:
        return bytes.fromhex("".join(str(profile).split("\n")[3:]))
    except ValueError:
        return None
