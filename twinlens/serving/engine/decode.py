"""Decodes the images of requests in a pool of threads, and queues them for the tower.

The pool has a queue for each priority, so that the hundreds of images of a large request do not
block small ones. What must stay true: no pixel is decoded before the header has passed the limits;
an exception in decoding fails that image alone; large requests always keep a share of the time.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from twinlens.bundle.arrays import Pixels, Row
from twinlens.bundle.image.image_source import ImageLimits, OpenedImage, open_image
from twinlens.errors import ImageError, TooLargeError, TwinlensError
from twinlens.serving.call import Call, Priority
from twinlens.serving.clock import Clock
from twinlens.serving.contracts import EncodedImage, StagedEncoder
from twinlens.serving.engine.speed import ImageSpeed
from twinlens.serving.engine.throttle import CHECK_SECONDS, SHORTEST_WAIT, Throttles
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.settings import Limits, ServerSettings

_QUICK_FORMATS = ("JPEG", "PNG", "WEBP")
_QUICK_PIXELS = 1 << 20  # of an image that is decoded within a few milliseconds
_TURN_SECONDS = 0.004  # of decoding on the event loop, before other requests get a turn

P = ParamSpec("P")
T = TypeVar("T")


class DecodePool(Executor):
    """Threads with a queue for each priority."""

    def __init__(
        self, threads: int, throttles: Throttles | None = None, clock: Clock | None = None
    ) -> None:
        self.threads = threads
        self._throttles = throttles or Throttles()
        self._clock = clock or Clock()
        self._lines: dict[Priority, deque[tuple[Future[Any], Callable[[], object]]]] = {
            priority: deque() for priority in Priority
        }
        self._changed = threading.Condition()
        self._closed = False
        self._started = [
            threading.Thread(target=self._loop, name=f"decode_{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._started:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function for a small request."""
        return self.submit_as(Priority.SMALL, lambda: fn(*args, **kwargs))

    def submit_as(self, priority: Priority, action: Callable[[], T]) -> Future[T]:
        """Run a function for a request of some priority."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._lines[priority].append((future, action))
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads: after the waiting work, or at once with `cancel_futures`."""
        with self._changed:
            self._closed = True
            if cancel_futures:
                for line in self._lines.values():
                    while line:
                        line.popleft()[0].cancel()
            self._changed.notify_all()
        if wait:
            for thread in self._started:
                thread.join()

    def _loop(self) -> None:
        while (found := self._take()) is not None:
            priority, future, action = found
            began = self._clock.now()
            if future.set_running_or_notify_cancel():
                _settle(future, action)
            if priority is not Priority.SMALL:
                now = self._clock.now()
                self._throttles.end(priority, now, now - began)

    def _take(self) -> tuple[Priority, Future[Any], Callable[[], object]] | None:
        """Return what to run next, waiting for it; None once closed and empty."""
        with self._changed:
            while True:
                priority = next((one for one, line in self._lines.items() if line), None)
                if priority is None:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                if priority is Priority.SMALL:
                    return (priority, *self._lines[priority].popleft())
                now = self._clock.now()
                pause = self._throttles.delay(priority, now)
                if pause <= SHORTEST_WAIT or self._closed:
                    self._throttles.begin(priority, 1, now)
                    return (priority, *self._lines[priority].popleft())
                self._changed.wait(min(CHECK_SECONDS, pause))


def _settle(future: Future[Any], action: Callable[[], object]) -> None:
    """Run an action; its result or error becomes the future's."""
    try:
        result = action()
    except BaseException as error:
        with suppress(Exception):  # cancelled meanwhile
            future.set_exception(error)
    else:
        with suppress(Exception):
            future.set_result(result)


class Decoding(Protocol):
    """What decoding needs of a model."""

    pool: DecodePool
    images: ServedTower[Pixels, Row] | None
    encoder: StagedEncoder
    settings: ServerSettings
    image_speed: ImageSpeed


class DecodeGroup:
    """Images that are decoded in parallel and queued together.

    So a request is always batched the same way; a bad image is left out of its batch.
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
            source.pool.submit_as(call.priority, partial(self._decode, index))

    def _decode(self, index: int) -> None:
        """Decode one image; the last of the group queues them all."""
        pixels: Pixels | None = None
        try:
            if not self._ticket.abandoned:
                pixels = decode_image(self._source, self._images[index], self._call)
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


async def decode_here(
    source: Decoding, ticket: Ticket[Row], call: Call, images: Sequence[EncodedImage]
) -> None:
    """Decode small images on the event loop and queue each at once; the pool decodes the others.

    For an image that takes 2 ms, switching threads would add 1 ms.
    """
    turn = call.clock.now()
    for index, image in enumerate(images):
        if call.clock.now() - turn > _TURN_SECONDS:
            await asyncio.sleep(0)
            turn = call.clock.now()
        try:
            opened, is_quick = open_checked(image, source.settings.limits, call)
        except TwinlensError as error:
            ticket.resolve(index, error)
            continue
        action = partial(_decode_checked, source, ticket, call, index, opened)
        if is_quick:
            action()
        else:
            source.pool.submit_as(call.priority, action)


def _decode_checked(
    source: Decoding, ticket: Ticket[Row], call: Call, index: int, opened: OpenedImage
) -> None:
    """Decode an image within the limits and queue it alone; its error is its answer."""
    if ticket.abandoned or source.images is None:
        return
    began = call.clock.now()
    try:
        pixels = source.encoder.preprocess(opened)
    except TwinlensError as error:
        ticket.resolve(index, error)
    except Exception:  # decoders raise many types; only this image fails
        ticket.resolve(index, ImageError("the image is damaged and cannot be decoded"))
    else:
        source.image_speed.decoding.observe(1, call.clock.now() - began)
        entry: QueueEntry[Pixels, Row] = QueueEntry(ticket, index, pixels, request=call.number)
        source.images.batcher.put([entry], call.priority)


def decode_image(source: Decoding, image: EncodedImage, call: Call) -> Pixels:
    """Return the pixels for the image tower, and record how long decoding took."""
    began = call.clock.now()
    opened, _ = open_checked(image, source.settings.limits, call)
    pixels = source.encoder.preprocess(opened)
    source.image_speed.decoding.observe(1, call.clock.now() - began)
    return pixels


def open_checked(image: EncodedImage, limits: Limits, call: Call) -> tuple[OpenedImage, bool]:
    """Return an image, and whether a few milliseconds decode it.

    Raise an `InputError` for one that is not acceptable.
    """
    content = unwrap(image, limits) if isinstance(image, str) else image
    if not content:
        raise ImageError("the image is empty (0 bytes)")
    header = open_image(content, ImageLimits(limits.image_bytes, limits.image_pixels))
    if (header.format or "").lower() not in limits.formats:
        raise ImageError(
            f"this server reads {', '.join(limits.formats)}; the image is {header.format}"
        )
    pixels = header.width * header.height
    call.spend_pixels(pixels)
    # A progressive file may hold any number of scans, each as large as the image.
    is_plain = header.format in _QUICK_FORMATS and not header.info.get("progressive")
    return OpenedImage(header), is_plain and max(pixels, len(content)) <= _QUICK_PIXELS


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
