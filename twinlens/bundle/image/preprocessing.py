"""Images to the pixels of an image tower: the single implementation for training, export, server.

What must stay true: pixels equal those of open_clip's and timm's own evaluation transforms, applied
to the upright image, within one grey level (docs/decisions/0010 to 0012 list the exceptions). A
`Preprocessor` is stateless and thread-safe.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image.framing import Framing, frame
from twinlens.bundle.image.image_source import (
    ImageLimits,
    ImageSource,
    OpenedImage,
    decoding,
    name_source,
    open_image,
)
from twinlens.bundle.image.orientation import read_orientation, turn_upright, turns_sideways
from twinlens.bundle.image.resampling import resample, to_eight_bits
from twinlens.bundle.manifest import ImageSpec
from twinlens.errors import BundleError

__all__ = ["ImageLimits", "ImageSource", "Preprocessor"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


class Preprocessor:
    """Converts any image to uint8 pixels (height, width, 3) according to `spec`.

    `fast` decodes a JPEG at the smallest of 1/2, 1/4, 1/8 scale with at least twice the needed
    pixels per side, and resizes only the visible part: several times faster for large photographs,
    but not within one grey level.
    """

    def __init__(
        self, spec: ImageSpec, *, fast: bool = False, limits: ImageLimits | None = None
    ) -> None:
        if min(spec.height, spec.width, spec.resize_to) < 1:
            raise BundleError(
                f"bundle.json: image.height {spec.height}, width {spec.width} and "
                f"resize_to {spec.resize_to} must be at least 1"
            )
        self.spec = spec
        self.fast = fast
        self.limits = limits or ImageLimits()
        self._filter = _FILTERS[spec.interpolation]

    def __call__(self, source: ImageSource | OpenedImage) -> Pixels:
        """Return the pixels (height, width, 3) as a new C-contiguous array."""
        image = open_image(source, self.limits)
        width, height = image.size
        with decoding(name_source(source)):
            if self.fast and image is not source and image.format == "JPEG":
                self._shrink_on_load(image)
            image.load()
        orientation = read_orientation(image)  # after load: PNG may store it after its pixels
        if turns_sideways(orientation):
            width, height = height, width
        framing = frame(self.spec, width, height)
        image = turn_upright(to_eight_bits(image), orientation)
        rgb_first = self.spec.convert == "before_resize"
        seen = resample(image, framing, self._filter, rgb_first=rgb_first, crop_inside=self.fast)
        return self._pad(seen, framing)

    def _shrink_on_load(self, image: Image.Image) -> None:
        """Make libjpeg scale while decoding, to no less than twice the resized image."""
        width, height = image.size
        sideways = turns_sideways(read_orientation(image))
        framing = frame(self.spec, *((height, width) if sideways else (width, height)))
        wanted = 2 * framing.x.resized, 2 * framing.y.resized
        image.draft(None, wanted[::-1] if sideways else wanted)

    def _pad(self, seen: Pixels, framing: Framing) -> Pixels:
        shape = (self.spec.height, self.spec.width, 3)
        if seen.shape == shape:
            return seen
        out = np.full(shape, self.spec.fill, np.uint8)
        top, left = framing.y.offset, framing.x.offset
        out[top : top + framing.y.length, left : left + framing.x.length] = seen
        return out
