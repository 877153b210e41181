"""Images on their way to the tower: what a client sent, decoded in a pool and queued together.

No pixel is decoded before the header has passed the limits. What must stay true: an exception in
decoding is the error of that one image.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from twinlens.bundle.arrays import Pixels, Row
from twinlens.bundle.image.image_source import ImageLimits, open_image
from twinlens.errors import ImageError, TooLargeError, TwinlensError
from twinlens.serving.call import Call
from twinlens.serving.contracts import EncodedImage
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.settings import Limits


class Decoding(Protocol):
    """What a group needs of a model: a decode pool and the image tower."""

    images: ServedTower[Pixels, Row] | None

    def decode(self, image: EncodedImage, call: Call) -> Pixels:
        """Return the pixels that the tower takes."""
        ...

    def submit(self, action: Callable[[int], None], index: int, call: Call) -> None:
        """Run `action(index)` in the decode pool, in the line of the call's priority."""
        ...


class DecodeGroup:
    """Images that are decoded in parallel and queued together.

    So a single request is always batched the same way, and a bad image is only missing from its
    batch.
    """

    def __init__(
        self,
        source: Decoding,
        ticket: Ticket[Row],
        call: Call,
        images: Sequence[EncodedImage],
        indices: range,
    ) -> None:
        self._source = source
        self._ticket = ticket
        self._call = call
        self._images = images
        self._decoded: dict[int, Pixels] = {}
        self._left = len(indices)
        self._lock = threading.Lock()
        for index in indices:
            source.submit(self._decode, index, call)

    def _decode(self, index: int) -> None:
        """Decode one image; the last of the group queues them all."""
        pixels: Pixels | None = None
        try:
            if not self._ticket.abandoned:
                pixels = self._source.decode(self._images[index], self._call)
        except TwinlensError as error:
            self._ticket.resolve(index, error)
        except Exception:  # decoders raise many types; only this image fails
            self._ticket.resolve(index, ImageError("the image is damaged and cannot be decoded"))
        with self._lock:
            if pixels is not None:
                self._decoded[index] = pixels
            self._left -= 1
            is_last = self._left == 0
        if is_last and self._decoded and self._source.images is not None:
            self._source.images.batcher.put(
                [
                    QueueEntry(self._ticket, i, self._decoded[i], request=self._call.number)
                    for i in sorted(self._decoded)
                ],
                self._call.priority,
            )


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
