"""A run's encoder as suites ask it, without an export: its towers in torch.

What must stay true: pictures are prepared as a bundle of the run would prepare them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.bundle.image.image_source import ImageSource
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.training.evaluation.embeddings import open_embedder
from twinlens.training.suites.examinee import Examinee, refuse_texts

BATCH = 256
SCALE = 100.0  # of the probabilities; suites judge by cosines, and `calibration` alone reads it


def examine_run(run: Path) -> Examinee:
    """Return the newest state of a run, to be asked; without texts it answers a few suites."""
    embedder = open_embedder(str(run))

    def embed_images(pictures: Sequence[ImageSource]) -> Rows:
        pixels = [embedder.preprocessor(picture) for picture in pictures]
        return normalise_rows(embedder.images(np.stack(pixels)).numpy())

    def embed_texts(texts: Sequence[str]) -> Rows:
        parts = [
            embedder.texts(list(texts[start : start + BATCH])).numpy()
            for start in range(0, len(texts), BATCH)
        ]
        return normalise_rows(np.concatenate(parts))

    similarity = SimilaritySpec("softmax", SCALE, 0.0, "")
    texts = embed_texts if embedder.has_text else refuse_texts(f"run {run.name!r}")
    return Examinee(
        run.name, ("{}",), similarity, embed_images, texts, reads_texts=embedder.has_text
    )
