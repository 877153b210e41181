"""Run as a program: adds images and moves a collection to another bundle and back, until killed.

Each line printed is an image that was added, or the revision that answers since then.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from twinlens.errors import NotFoundError
from twinlens.index.collection import Collection
from twinlens.index.ingest.builder import BuildOptions
from twinlens.index.ingest.live_folder import LiveFolder, apply_changes
from twinlens.index.maintenance import IndexPlan
from twinlens.index.storage.records import BundleRecord
from twinlens.index.upkeep.embedding_set import BundleEmbeddings
from twinlens.index.upkeep.embedding_swap import find_previous, swap_in
from twinlens.index.upkeep.reembedding import consolidate, stage
from twinlens.index.writer import Writer

SIDE = 2


class TurnedEncoder:
    """Embeds an image as its own pixels, turned by a matrix that depends on the revision."""

    def __init__(self, revision: str, dim: int) -> None:
        self.bundle = BundleRecord(f"bundle-{revision}", revision, f"/{revision}", dim)
        rng = np.random.default_rng(len(revision) + dim)
        self._matrix = rng.standard_normal((SIDE * SIDE * 3, dim)).astype(np.float32)
        self.encoded = 0

    def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
        with Image.open(io.BytesIO(image)) as opened:
            return np.asarray(opened.convert("RGB").resize((SIDE, SIDE)), dtype=np.uint8)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.encoded += len(pixels)
        rows = (pixels.reshape(len(pixels), -1).astype(np.float32) - 127) @ self._matrix
        unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def embed_texts(
        self, texts: Sequence[str], /, *, input_type: str | None = None
    ) -> npt.NDArray[np.float32]:
        """A text is the name of a colour: six hexadecimal digits."""
        colours = [[int(text[n : n + 2], 16) for n in (0, 2, 4)] for text in texts]
        pixels = np.asarray(colours, np.uint8)[:, None, None, :].repeat(SIDE, 1).repeat(SIDE, 2)
        return self.encode_pixels(pixels)


ENCODERS = {one.bundle.revision: one for one in (TurnedEncoder("r1", 12), TurnedEncoder("r22", 8))}


def paint(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def prepare(folder: Path, revision: str) -> BundleEmbeddings:
    """Stage and join the embeddings of a bundle."""
    encoder = ENCODERS[revision]
    with Collection(folder) as collection:
        stage(collection, encoder.bundle, encoder, batch=4)
        staged = stage(collection, encoder.bundle, encoder, batch=4)
        return consolidate(collection, staged, None, IndexPlan("exact"))


def main(place: str, root: str, number: int) -> None:
    """Work until killed."""
    folder, images = Path(place), LiveFolder(Path(root))
    options = BuildOptions(batch=4, workers=2, max_delete="100%")
    print("ready", flush=True)  # noqa: T201
    while True:
        with Writer(folder, seal_rows=16) as writer:
            now = writer.catalog.head().bundle_revision
            paint(images.root / f"n{number}.png", number)
            apply_changes(writer, images, [f"n{number}.png"], ENCODERS[now], options)
            print(f"n{number}.png", flush=True)  # noqa: T201
        other = next(revision for revision in ENCODERS if revision != now)
        goes_back = number % 3 == 0 and any(folder.glob("previous-*"))
        try:
            chosen = find_previous(folder) if goes_back else prepare(folder, other)
        except NotFoundError:
            chosen = prepare(folder, other)
        with Writer(folder, seal_rows=16) as writer:
            swap_in(writer, chosen, ENCODERS[chosen.bundle.revision])
        print(chosen.bundle.revision, flush=True)  # noqa: T201
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
