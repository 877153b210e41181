"""Decoding a few images of one request, then queueing them together for the image tower.

What must stay true: an exception in decoding is the error of that one image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from twinlens.bundle.arrays import Pixels, Row
from twinlens.errors import ImageError, TwinlensError
from twinlens.serving.call import Call
from twinlens.serving.contracts import EncodedImage
from twinlens.serving.engine.batcher import QueueEntry, Ticket
from twinlens.serving.engine.tower import ServedTower


class Decoding(Protocol):
    """What a group needs of a model: a decode pool and the image tower."""

    images: ServedTower[Pixels, Row] | None

    def decode(self, image: EncodedImage, call: Call) -> Pixels:
        """Return the pixels that the tower takes."""
        ...

    def submit(self, action: Callable[[int], None], index: int) -> None:
        """Run `action(index)` in the decode pool."""
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
            source.submit(self._decode, index)

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
                [QueueEntry(self._ticket, i, self._decoded[i]) for i in sorted(self._decoded)],
                background=self._call.is_background,
            )
