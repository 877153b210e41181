"""A run's encoder for the suites, without an export: its towers in torch.

What must stay true: pictures are prepared, and cosines become probabilities, as in a bundle of the
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.bundle.image.image_source import ImageSource
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.training.evaluation.embeddings import RunEmbedder
from twinlens.training.runs.run import open_run
from twinlens.training.suites.examinee import Examinee, refuse_texts

BATCH = 256
SCALE = 100.0  # logit scale of the probabilities, for a run that learned none


def examine_run(run: Path) -> Examinee:
    """Return the latest state of a run; without a text tower it answers only some suites."""
    opened = open_run(run)
    embedder = RunEmbedder(opened)

    def embed_images(pictures: Sequence[ImageSource]) -> Rows:
        pixels = [embedder.preprocessor(picture) for picture in pictures]
        return normalise_rows(embedder.images(np.stack(pixels)).numpy())

    def embed_texts(texts: Sequence[str]) -> Rows:
        parts = [
            embedder.texts(list(texts[start : start + BATCH])).numpy()
            for start in range(0, len(texts), BATCH)
        ]
        return normalise_rows(np.concatenate(parts))

    learned = opened.learned
    kind: Literal["sigmoid", "softmax"] = "sigmoid" if "bias" in learned else "softmax"
    similarity = SimilaritySpec(kind, learned.get("scale", SCALE), learned.get("bias", 0.0), "")
    texts = embed_texts if embedder.has_text else refuse_texts(f"run {run.name!r}")
    return Examinee(
        run.name, ("{}",), similarity, embed_images, texts, reads_texts=embedder.has_text
    )
