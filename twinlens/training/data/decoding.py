"""From a file to a whole picture: upright, RGB, its short side resized to what the run stores.

What must stay true: the aspect is kept and nothing is enlarged, so that crops of a picture are
distributed as crops of the file. A side over `LONGEST` times the stored one is cut to its middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinlens.bundle.image.framing import Framing, Span
from twinlens.bundle.image.image_source import ImageLimits, decoding, name_source, open_image
from twinlens.bundle.image.orientation import read_orientation, turn_upright, turns_sideways
from twinlens.bundle.image.resampling import resample, to_eight_bits

_Filter = Image.Resampling
LONGEST = 4  # times the stored short side
STORED = 2  # default short side, in sides of a view


@dataclass(frozen=True)
class WholePicture:
    """Decodes a file to pixels (h, w, 3) whose short side is `short`, or less in a small file.

    A JPEG is decoded at the smallest of 1/2, 1/4, 1/8 scale with twice the wanted pixels.
    """

    short: int

    def __call__(self, source: bytes) -> NDArray[np.uint8]:
        """Return the pixels."""
        image = open_image(source, ImageLimits())
        width, height = self._resized(*image.size)
        with decoding(name_source(source)):
            if image.format == "JPEG":
                image.draft(None, (2 * width, 2 * height))
            image.load()
        orientation = read_orientation(image)  # after load: PNG may store it after its pixels
        if turns_sideways(orientation):
            width, height = height, width
        framing = Framing(self._middle(width), self._middle(height))
        upright = turn_upright(to_eight_bits(image), orientation)
        # Without resizing every filter keeps each pixel, and the box filter is the fastest.
        filter = _Filter.BOX if _shows_all(framing, upright.size) else _Filter.BICUBIC
        return resample(upright, framing, filter, rgb_first=True, crop_inside=True)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, self.short / min(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _middle(self, resized: int) -> Span:
        length = min(resized, LONGEST * self.short)
        return Span(resized, (resized - length) // 2, length, 0)


def _shows_all(framing: Framing, size: tuple[int, int]) -> bool:
    """Tell whether the spec keeps the whole image at its own size."""
    spans = zip((framing.x, framing.y), size, strict=True)
    return all((span.resized, span.length, span.skip) == (side, side, 0) for span, side in spans)


def stored_side(stored_size: int, image_size: int) -> int:
    """Return the short side that pictures are stored at."""
    return stored_size or STORED * image_size
