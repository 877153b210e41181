"""Pictures of the data as the suites change them: upright, in RGB, of bounded size.

What must stay true: a changed picture depends on the picture and the change alone, not on the
encoder that will see it, so that encoders are compared on the same pixels.
"""

from __future__ import annotations

from PIL import Image

from twinlens.bundle.image.image_source import ImageLimits, ImageSource, decoding, open_image
from twinlens.bundle.image.orientation import read_orientation, turn_upright
from twinlens.bundle.image.resampling import to_eight_bits

SIDE = 224  # of the short side; larger pictures are reduced before they are changed


def decode_picture(source: ImageSource, side: int = SIDE) -> Image.Image:
    """Return the picture upright in RGB, its short side at most `side`."""
    image = open_image(source, ImageLimits())
    with decoding():
        image.load()
    upright = turn_upright(to_eight_bits(image), read_orientation(image))
    if "A" in upright.getbands() or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(white, layer)
    return shrink_picture(upright.convert("RGB"), side)


def shrink_picture(image: Image.Image, side: int) -> Image.Image:
    """Return the image with a short side of at most `side`."""
    short = min(image.size)
    if short <= side:
        return image
    size = tuple(max(1, round(length * side / short)) for length in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
