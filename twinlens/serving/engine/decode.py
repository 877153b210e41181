"""From what a client sent to the bytes of an image that may be decoded: base64, format, size.

Everything here runs in the decode pool; no pixel is decoded before the header has passed the
limits.
"""

from __future__ import annotations

import base64
import binascii

from twinlens.bundle.image.image_source import ImageLimits, open_image
from twinlens.errors import ImageError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.contracts import EncodedImage
from twinlens.serving.settings import Limits


def read_image(image: EncodedImage, limits: Limits, call: Call) -> bytes:
    """Return the bytes of an acceptable image; raise an `InputError` for any other."""
    content = unwrap(image, limits) if isinstance(image, str) else image
    if not content:
        raise ImageError("the image is empty (0 bytes)")
    with open_image(content, ImageLimits(limits.image_bytes, limits.image_pixels)) as header:
        if (header.format or "").lower() not in limits.formats:
            raise ImageError(
                f"this server reads {', '.join(limits.formats)}; the image is {header.format}"
            )
        call.spend_pixels(header.width * header.height)
    return content


def unwrap(text: str, limits: Limits) -> bytes:
    """Return the bytes in base64, bare or in a data URI."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ImageError("a data URI must be of the form data:image/...;base64,...")
    if len(text) > limits.image_bytes * 4 // 3 + 4:
        raise TooLargeError(f"the image has more than {limits.image_bytes} bytes, the limit")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(
            "the image is neither a data URI nor base64 (URLs start with http:// or https://)"
        ) from None
