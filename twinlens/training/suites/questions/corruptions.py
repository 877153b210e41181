"""Corruptions of pictures at five strengths: noise, blur, JPEG, resize, contrast.

Definitions and strengths are those of ImageNet-C (Hendrycks & Dietterich 2019,
https://arxiv.org/abs/1903.12261); `resize` is its pixelation. What must stay true: noise depends on
the picture and the given generator, all others on the picture alone.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRENGTHS = (1, 2, 3, 4, 5)
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of the range
_BLUR = (1, 2, 3, 4, 6)  # standard deviation in pixels
_QUALITY = (25, 18, 15, 10, 7)
_SCALE = (0.6, 0.5, 0.4, 0.3, 0.25)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_REACH = 4.0  # where the blur kernel is cut, in standard deviations

Doubles = NDArray[np.float64]


def corrupt_picture(
    image: Image.Image, kind: str, strength: int, rng: np.random.Generator
) -> Image.Image:
    """Return an RGB picture corrupted; `strength` is from 1 to 5."""
    return CORRUPTIONS[kind](image, strength - 1, rng)


def _add_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    values = _read(image)
    return _write(values + rng.normal(size=values.shape, scale=_NOISE[level]))


def _blur(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    kernel = _gauss(_BLUR[level])
    values = _read(image)
    for axis in (0, 1):
        values = _convolve(values, kernel, axis)
    return _write(values)


def _compress(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY[level])
    return Image.open(buffer).convert("RGB")


def _resize(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    width, height = (max(1, int(side * _SCALE[level])) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _flatten(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    values = _read(image)
    means = values.mean(axis=(0, 1), keepdims=True)
    return _write((values - means) * _CONTRAST[level] + means)


Corruption = Callable[[Image.Image, int, np.random.Generator], Image.Image]
CORRUPTIONS: dict[str, Corruption] = {
    "noise": _add_noise,
    "blur": _blur,
    "jpeg": _compress,
    "resize": _resize,
    "contrast": _flatten,
}


def _read(image: Image.Image) -> Doubles:
    return np.asarray(image, np.float64) / 255


def _write(values: Doubles) -> Image.Image:
    return Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))


def _gauss(deviation: float) -> Doubles:
    radius = int(_REACH * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    return np.asarray(weights / weights.sum())


def _convolve(values: Doubles, kernel: Doubles, axis: int) -> Doubles:
    """Return values blurred along an axis; pixels outside equal the nearest inside."""
    radius, length = len(kernel) // 2, values.shape[axis]
    pads = [(radius, radius) if place == axis else (0, 0) for place in range(values.ndim)]
    padded = np.pad(values, pads, mode="edge")
    shifted = (np.take(padded, range(i, i + length), axis) for i in range(len(kernel)))
    return np.asarray(sum(weight * part for weight, part in zip(kernel, shifted, strict=True)))
