"""Resizes and crops a decoded image to pixels.

What must stay true: the exact path makes the same calls to Pillow as the references, so that it
agrees with them for every version of Pillow (docs/decisions/0012); memory is proportional to the
visible part, even for an image of 1 x 50,000 pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image.framing import Framing, Span
from twinlens.bundle.image.native_resize import Stretch, resize_visible
from twinlens.bundle.image.tiff import LEVELS
from twinlens.errors import ImageError

Box = tuple[float, float, float, float]

# Not F (floats of any range; a TIFF's are scaled before), and not the premultiplied La and RGBa
# that Pillow uses internally.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_REACH = 3  # radius in pixels of the widest filter, lanczos
_LARGE = 1 << 22  # pixels: larger images are never resized as a whole for their centre


def resample(
    image: Image.Image,
    framing: Framing,
    filter: Image.Resampling,
    *,
    rgb_first: bool,
    crop_inside: bool,
) -> Pixels:
    """Return the visible part of the resized image as RGB (height, width, 3).

    `rgb_first` converts other modes to RGB before the resize, not after it. Grey stays one channel
    until the end in both cases, which is faster and gives the same result. `crop_inside` resizes
    only the visible part: faster, and usually within one grey level, but not always.
    """
    if image.mode in ("1", "P", "PA") and not rgb_first:
        filter = Image.Resampling.NEAREST  # palettes cannot be interpolated; Pillow does the same
    if rgb_first or filter == Image.Resampling.NEAREST:
        image = to_rgb_or_grey(image)
    if filter == Image.Resampling.NEAREST:
        return _pick_nearest(image, framing)
    if crop_inside or framing.x.resized * framing.y.resized > _LARGE:
        return _resize_part(image, framing, filter)
    x, y = framing.x, framing.y
    seen = resize_visible(image, _whole(image.width, x), _whole(image.height, y), filter)
    if seen is not None:
        return seen
    resized = image.resize((x.resized, y.resized), filter)
    return _to_array(resized.crop((x.skip, y.skip, x.skip + x.length, y.skip + y.length)))


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16-bit or 32-bit levels as 8-bit grey, any other unchanged.

    Raises for a mode without a known range of levels; a TIFF's are known.
    """
    bits, zero_is_white = image.info.get(LEVELS, (16, False))
    if image.mode.startswith("I;16"):
        # The high byte, as Pillow reads 16-bit RGB. Pillow's conversion from I;16 clips at 255.
        levels = (np.asarray(image) >> max(0, min(8, bits - 8))).astype(np.uint8)
        return Image.fromarray(~levels if zero_is_white else levels)
    if image.mode == "I":
        return Image.fromarray(_scale_integers(np.asarray(image)))
    if image.mode == "F" and LEVELS in image.info:
        levels = _scale_floats(np.asarray(image))
        return Image.fromarray(~levels if zero_is_white else levels)
    if image.mode not in _MODES:
        raise ImageError(
            f"image has Pillow's mode {image.mode}; convert it to RGB with 8-bit levels first",
            field="image",
        )
    return image


def _scale_floats(levels: npt.NDArray[np.float32]) -> Pixels:
    """Return 8-bit levels: floats reach 1, 255 or 65535; the maximum decides."""
    low, high = float(levels.min()), float(levels.max())
    if not (low >= 0 and high <= 0xFFFF):  # NaN too
        raise ImageError(
            f"image has levels from {low:g} to {high:g}; expected 0 to 1, to 255 or to 65535",
            field="image",
        )
    scale = 255.0 if high <= 1 else 1.0 if high <= 0xFF else 255 / 0xFFFF
    scaled: Pixels = np.rint(levels * np.float32(scale)).astype(np.uint8)
    return scaled


def _scale_integers(levels: npt.NDArray[np.int32]) -> Pixels:
    """Return 8-bit levels: mode I holds 8-bit or 16-bit ones; the maximum decides."""
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > 0xFFFF:
        raise ImageError(
            f"image has levels from {low} to {high}; expected 0 to 65535", field="image"
        )
    return (levels >> 8 if high > 0xFF else levels).astype(np.uint8)


def to_rgb_or_grey(image: Image.Image) -> Image.Image:
    """Return an image of 8-bit levels as RGB, grey ones unchanged; alpha is dropped."""
    if image.mode in ("RGB", "L"):
        return image
    if "transparency" in image.info:
        # Meaningless without the palette; Pillow would warn.
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _to_array(image: Image.Image) -> Pixels:
    return np.array(to_rgb_or_grey(image).convert("RGB"))


def _whole(size: int, span: Span) -> Stretch:
    return Stretch(0, size, 0, size, span.resized, span.skip, span.length)


def _resize_part(image: Image.Image, framing: Framing, filter: Image.Resampling) -> Pixels:
    left, right, from_x, to_x = _source_span(framing.x, image.width)
    top, bottom, from_y, to_y = _source_span(framing.y, image.height)
    if 2 * (to_x - from_x) * (to_y - from_y) < image.width * image.height:
        # Pillow takes the box in single precision, which is more exact near the origin.
        left, right, top, bottom = left - from_x, right - from_x, top - from_y, bottom - from_y
    else:
        from_x, from_y, to_x, to_y = 0, 0, image.width, image.height
    width, height = to_x - from_x, to_y - from_y
    right, bottom = min(right, width), min(bottom, height)
    x = Stretch(from_x, width, left, right, framing.x.length, 0, framing.x.length)
    y = Stretch(from_y, height, top, bottom, framing.y.length, 0, framing.y.length)
    seen = resize_visible(image, x, y, filter)
    if seen is not None:
        return seen
    if (width, height) != image.size:
        image = image.crop((from_x, from_y, to_x, to_y))
    size, box = (framing.x.length, framing.y.length), (left, top, right, bottom)
    return _to_array(image.resize(size, filter, box))


def _source_span(span: Span, size: int) -> tuple[float, float, int, int]:
    """Return the visible part in source coordinates, and the range of pixels it depends on."""
    scale = size / span.resized
    start, stop = span.skip * scale, (span.skip + span.length) * scale
    reach = _REACH * max(scale, 1.0) + 2
    return start, stop, max(0, int(start - reach)), min(size, int(stop + reach) + 1)


def _pick_nearest(image: Image.Image, framing: Framing) -> Pixels:
    rows = _nearest_indices(framing.y, image.height)
    columns = _nearest_indices(framing.x, image.width)
    picked = np.asarray(image).take(rows, axis=0).take(columns, axis=1)
    return np.repeat(picked[:, :, None], 3, axis=2) if picked.ndim == 2 else picked


def _nearest_indices(span: Span, size: int) -> npt.NDArray[np.intp]:
    """Return the source pixel of each visible one, with the same summation as Pillow."""
    steps = np.full(span.resized, size / span.resized)
    steps[0] /= 2
    places = np.add.accumulate(steps).astype(np.intp)
    return np.minimum(places[span.skip : span.skip + span.length], size - 1)
