"""A build on Ray that a test kills: python drill_ray.py COLLECTION IMAGES LOG CPUS.

Workers append a line to LOG for each image that they embed: their process, and the image's sum.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.index.ingest.test_builder import PixelEncoder
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.ingest.ray_engine import RayEngine
from twinlens.index.writer import Writer

SECONDS = 0.002  # an image


class LoggingEncoder(PixelEncoder):
    """Embeds slowly, and logs each image."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self._log = log

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the embeddings, once they are logged."""
        time.sleep(SECONDS * len(pixels))
        with Path(self._log).open("a", encoding="utf-8") as log:
            log.write("".join(f"{os.getpid()} {bytes(one.ravel()).hex()}\n" for one in pixels))
        return super().encode_pixels(pixels)


def open_logging(log: str, threads: int) -> LoggingEncoder:
    """Open the encoder of a worker."""
    return LoggingEncoder(log)


def main() -> None:
    """Build, and print the number of committed items after each batch."""
    collection, images, log, cpus = sys.argv[1:]
    engine = RayEngine(partial(open_logging, log), cpus=int(cpus))
    with Writer(collection) as writer:

        def tell(_: object) -> None:
            print(writer.catalog.count(), flush=True)  # noqa: T201

        options = BuildOptions(batch=16)
        build(writer, open_corpus(images), PixelEncoder(), options, tell, engine)
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
