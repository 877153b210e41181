"""Attention maps of an image tower, as numbers or drawn over the image.

They come from a second graph that embedding does not use; it runs in the decode pool.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinlens.bundle.arrays import Pixels, Rows
from twinlens.errors import InputError
from twinlens.serving.engine.model import ServedModel


def compute_attention(model: ServedModel, pixels: Pixels) -> Rows:
    """Return the last layer's attention of one image (heads, rows, columns)."""
    maps: Rows = model.encoder.attention(pixels[None])[0]
    return maps


def choose_head(maps: Rows, head: int | None) -> NDArray[np.float32]:
    """Return the map of one head, or the mean of all (rows, columns)."""
    if head is None:
        return np.asarray(maps.mean(axis=0), dtype=np.float32)
    if head >= len(maps):
        raise InputError(f"head is {head}; there are {len(maps)}", field="head")
    return np.asarray(maps[head], dtype=np.float32)


def draw_overlay(pixels: Pixels, chosen: NDArray[np.float32]) -> bytes:
    """Return a PNG of the image as the tower saw it, dark where attention is low."""
    height, width = pixels.shape[:2]
    span = float(chosen.max() - chosen.min()) or 1.0
    small = np.uint8(255 * (chosen - chosen.min()) / span)
    enlarged = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    weight = np.asarray(enlarged, dtype=np.float32)[:, :, None] / 255
    # Bright and warm where attention is high, dim elsewhere: readable without a colour scale.
    lit = 0.25 * pixels + weight * (0.45 * pixels + 0.30 * np.array([255, 170, 40]))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
