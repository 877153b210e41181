"""Thumbnails: a small, upright WebP of an image, for pages, sheets and notebooks."""

from __future__ import annotations

import io

from twinlens.bundle.image.image_source import ImageLimits, decoding, open_image
from twinlens.bundle.image.orientation import read_orientation, turn_upright
from twinlens.bundle.image.resampling import to_eight_bits, to_rgb_or_grey

SIDE = 224
QUALITY = 80


def make_thumbnail(image: bytes, side: int = SIDE) -> bytes:
    """Return the image as a small WebP, rotated by EXIF; raise `ImageError` if it is invalid."""
    with decoding():
        opened = open_image(image, ImageLimits())
        opened.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded at a fraction of its size
        opened.load()
        orientation = read_orientation(opened)
        upright = turn_upright(to_rgb_or_grey(to_eight_bits(opened)).convert("RGB"), orientation)
    upright.thumbnail((side, side))
    out = io.BytesIO()
    upright.save(out, "WEBP", quality=QUALITY)
    return out.getvalue()
