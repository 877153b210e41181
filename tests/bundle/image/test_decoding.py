"""Batches are decoded in order, at most one ahead."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.image.decoding import decode_batches
from twinlens.errors import ImageError


def paint(value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((2, 2, 3), value, np.uint8)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 23])
def test_every_image_comes_once_and_in_order(count: int) -> None:
    images: list[Any] = list(range(count))
    batches = list(decode_batches(paint, images, 8))
    assert [len(batch) for batch in batches[:-1]] == [8] * (len(batches) - 1)
    assert [int(pixels[0, 0, 0]) for batch in batches for pixels in batch] == images


def test_decoding_stays_one_batch_ahead() -> None:
    lock, decoded = threading.Lock(), set()

    def decode(value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        with lock:
            decoded.add(value)
        return paint(value)

    images: list[Any] = list(range(40))
    batches = decode_batches(decode, images, 4)
    next(batches)
    batches.close()
    assert decoded <= set(range(8))


def test_an_error_names_the_place() -> None:
    def decode(value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if value == 5:
            raise ImageError("cannot be read")
        return paint(value)

    images: list[Any] = list(range(12))
    with pytest.raises(ImageError, match=r"images\[5\]: cannot be read") as caught:
        list(decode_batches(decode, images, 4))
    assert caught.value.field == "images[5]"
