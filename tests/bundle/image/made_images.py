"""Images of every mode, format and shape for the tests of preprocessing; no tests."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from twinlens.bundle.manifest import ImageSpec

SHAPES = [
    (1, 1), (1, 5000), (5000, 1), (2, 3), (7, 1000), (223, 225), (224, 224), (225, 224),
    (224, 300), (301, 777), (640, 480), (481, 641), (33, 32), (448, 448), (1000, 999), (100, 61),
]  # fmt: skip
FEW_SHAPES = [(1, 1), (2, 3), (1, 300), (223, 225), (61, 100), (301, 207)]
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
MODES = ["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "I;16", "I", "YCbCr"]


def spec(**changes: Any) -> ImageSpec:
    """Return a small frame, by default with open_clip's rules."""
    values: dict[str, Any] = {
        "file": "image.onnx",
        "height": 64,
        "width": 64,
        "resize": "shortest",
        "resize_to": 64,
        "interpolation": "bicubic",
        "mean": ZERO,
        "std": ONE,
        "convert": "after_resize",
    }
    return ImageSpec(**(values | changes))


def pixels(width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return RGB pixels with gradients, hard edges and noise."""
    rng = np.random.default_rng((seed, width, height))
    y, x = np.mgrid[0:height, 0:width]
    slopes = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256])
    image = slopes.transpose(1, 2, 0).astype(np.uint8)
    image[(x // 5 + y // 7) % 3 == 0] = (255, 0, 0)
    image[(x // 11 + y // 3) % 4 == 1] = (0, 0, 255)
    noisy = rng.random((height, width)) < 0.3
    image[noisy] = rng.integers(0, 256, (int(noisy.sum()), 3))
    return image


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Return the image in a mode of Pillow, with varied alpha and black channels."""
    image = Image.fromarray(pixels(width, height, seed))
    if mode in ("I;16", "I"):
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        return Image.fromarray(grey if mode == "I;16" else grey.astype(np.int32))
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(pixels(width, height, seed + 1)[..., 2]))
        return image.convert(mode)
    if mode == "CMYK":
        channels = [*image.split(), Image.fromarray(pixels(width, height, seed + 1)[..., 0])]
        return Image.merge("CMYK", channels)
    return image.convert(mode)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return the encoded image."""
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
