"""The inputs that an export or a pull is compared on: images and texts made by fixed rules.

They are bytes and strings, so that the golden vectors verify decoding, preprocessing and tokenizer
too. Generated inputs have our own licence and varied sizes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

ColourPlane = NDArray[Any]

TEXTS = (
    "a cat",
    "a photo of a red bicycle leaning against a white wall",
    "Two dogs, one brown and one black, run along the beach at sunset.",
    "kilometres of snow-covered fir trees (seen from a train window)",
    "O",
    "café crème & 12 croissants — 3,50 €",
    # Longer than any usual context: truncation keeps the end-of-text token.
    "a street market with " + ", ".join(f"{i} baskets of fruit" for i in range(1, 60)),
)


def golden_texts() -> list[str]:
    """Return the texts: short, long, with accents and signs, and one beyond the context."""
    return list(TEXTS)


def golden_images() -> list[bytes]:
    """Return encoded pictures of several shapes, modes and formats."""
    return [
        _encode(_gradient(128, 128), "PNG"),
        _encode(_shapes(320, 200), "JPEG"),
        _encode(_waves(97, 131), "PNG"),
        _encode(_noise(64, 72), "PNG"),
        _encode(_checks(60, 240), "JPEG"),
        _encode(_shapes(240, 320).convert("L"), "PNG"),
        _encode(_waves(150, 149).convert("P"), "PNG"),
    ]


def _encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _paint(
    rows: int, columns: int, rule: Callable[[ColourPlane, ColourPlane], list[ColourPlane]]
) -> Image.Image:
    """Return an image whose red, green and blue are functions of (row, column) in 0 to 1."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    channels = rule(y / rows, x / columns)
    return Image.fromarray((255 * np.clip(np.stack(channels, -1), 0, 1)).astype(np.uint8))


def _gradient(rows: int, columns: int) -> Image.Image:
    return _paint(rows, columns, lambda y, x: [x, y, 1 - (x + y) / 2])


def _waves(rows: int, columns: int) -> Image.Image:
    return _paint(
        rows,
        columns,
        lambda y, x: [
            0.5 + 0.5 * np.sin(f * (x + g * y)) for f, g in ((9, 1), (23, -2), (41, 0.3))
        ],
    )


def _checks(rows: int, columns: int) -> Image.Image:
    return _paint(
        rows,
        columns,
        lambda y, x: [((x * f).astype(int) + (y * 4).astype(int)) % 2 for f in (8, 12, 16)],
    )


def _noise(rows: int, columns: int) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _shapes(rows: int, columns: int) -> Image.Image:
    image = _gradient(rows, columns)
    draw = ImageDraw.Draw(image)
    for i in range(6):
        x, y = columns * (i % 3) // 3, rows * (i // 3) // 2
        box = (x + 8, y + 8, x + columns // 4, y + rows // 3)
        (draw.ellipse if i % 2 else draw.rectangle)(box, fill=(40 * i, 255 - 35 * i, 90 + 25 * i))
    return image
