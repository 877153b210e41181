"""Tiny videos, made by PyAV itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

Colour = tuple[int, int, int]
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
RATE = 10


def make_video(
    colours: Sequence[tuple[Colour, float]], format: str = "mp4", codec: str = "mpeg4"
) -> bytes:
    """Return a video that shows each colour for so many seconds."""
    av: Any = pytest.importorskip("av", reason="pip install 'twinlens[video]'")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour, seconds in colours:
            pixels = np.full((48, 64, 3), colour, np.uint8)
            for _ in range(round(seconds * RATE)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
