"""The speed of an encoder on this machine: images and texts per second, without decoding.

What must stay true: nothing is downloaded; a model that is not on this machine is not measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.errors import BundleError, PullError

SECONDS = 1.0  # of work for each tower
_OFFLINE = "HF_HUB_OFFLINE"
_TEXT = "a photo of a red bicycle"


@dataclass(frozen=True)
class ModelSpeed:
    """Rates by tower at this machine's batch size; None for a missing tower."""

    images_per_second: float | None
    texts_per_second: float | None


def open_offline(source: str) -> Encoder:
    """Open a model that is on this machine; raise if it is not."""
    try:
        with _offline():
            return open_bundle(source)
    except PullError:
        raise BundleError(
            f"{source} is not on this machine; pull it first: twinlens pull {source}",
            code="not_found",
        ) from None


def measure_speed(encoder: Encoder) -> ModelSpeed:
    """Return the encoder's speed, after a warm-up."""
    spec = encoder.manifest.image
    images = texts = None
    if spec is not None:
        size = encoder.batch_size("image")
        pixels = np.zeros((size, spec.height, spec.width, 3), np.uint8)
        images = _measure_rate(lambda: encoder.encode_pixels(pixels), size)
    if encoder.manifest.text is not None:
        count = encoder.batch_size("text")
        tokens = encoder.tokenize([_TEXT]) * count
        texts = _measure_rate(lambda: encoder.encode_tokens(tokens), count)
    return ModelSpeed(images, texts)


def _measure_rate(run: Callable[[], object], items: int) -> float:
    """Return items per second by the median of the runs of `SECONDS`."""
    run()
    began = time.perf_counter()
    taken: list[float] = []
    while not taken or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return round(items / float(np.median(taken)), 1)


@contextmanager
def _offline() -> Iterator[None]:
    """Restrict the hub's client to its cache, for this block."""
    before = os.environ.get(_OFFLINE)
    os.environ[_OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OFFLINE]
        else:
            os.environ[_OFFLINE] = before
