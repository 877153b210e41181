"""Run as a program: follows a folder until killed, printing a line after each group of changes."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.live_folder import LiveFolder, follow
from twinlens.index.writer import Writer


class PixelEncoder:
    """Embeds an image as its own 2x2 pixels."""

    def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
        with Image.open(io.BytesIO(image)) as opened:
            return np.asarray(opened.convert("RGB").resize((2, 2)), dtype=np.uint8)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        rows = pixels.reshape(len(pixels), -1).astype(np.float32) + 1
        unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def main(place: str, root: str) -> None:
    """Index the folder, print `ready`, and follow it until killed."""
    live = LiveFolder(Path(root), quiet=0.05)
    encoder, options = PixelEncoder(), BuildOptions(batch=4, workers=2, max_delete="100%")
    changes = live.watch(threading.Event())
    next(changes)
    with Writer(place, seal_rows=30) as writer:
        build(writer, live.corpus(), encoder, options)
    print("ready", flush=True)  # noqa: T201
    follow(
        Path(place),
        live,
        changes,
        encoder,
        options,
        lambda progress: print(progress.embedded, progress.removed, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
