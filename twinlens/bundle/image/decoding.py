"""Many images to batches of pixels: decoded by several threads, one batch ahead of the encoder.

What must stay true: memory holds two batches for any length of the list, and an error names the
index of the image that caused it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image.image_source import ImageSource
from twinlens.bundle.processors import count_physical_cores
from twinlens.errors import InputError

Preprocess = Callable[[ImageSource], Pixels]


def decode_batches(
    preprocess: Preprocess, images: Sequence[ImageSource], batch: int
) -> Generator[Pixels, None, None]:
    """Yield pixels (at most `batch`, height, width, 3); the next batch decodes meanwhile."""
    if len(images) <= 1:  # not worth a thread
        for image in images:
            yield _decode(preprocess, image, 0)[None]
        return
    with ThreadPoolExecutor(count_physical_cores(), "decode") as pool:
        ahead: list[Future[Pixels]] = []
        try:
            for start in range(0, len(images), batch):
                current = ahead or _submit(pool, preprocess, images, start, batch)
                ahead = _submit(pool, preprocess, images, start + batch, batch)
                yield np.stack([future.result() for future in current])
        finally:
            for future in ahead:  # after an error, cancel the rest
                future.cancel()


def _submit(
    pool: ThreadPoolExecutor,
    preprocess: Preprocess,
    images: Sequence[ImageSource],
    start: int,
    batch: int,
) -> list[Future[Pixels]]:
    stop = min(start + batch, len(images))
    return [pool.submit(_decode, preprocess, images[i], i) for i in range(start, stop)]


def _decode(preprocess: Preprocess, image: ImageSource, position: int) -> Pixels:
    """Preprocess one image of a list; an error names its index."""
    try:
        return preprocess(image)
    except InputError as error:
        error.field = f"images[{position}]"
        error.message = f"images[{position}]: {error.message}"
        error.args = (error.message,)
        raise
