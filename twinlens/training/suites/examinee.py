"""The encoder under test, as the suites see it: pictures and texts to unit rows.

What must stay true: an examinee returns rows and knows nothing of the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.image.image_source import ImageSource
from twinlens.bundle.manifest import SimilaritySpec
from twinlens.errors import InputError
from twinlens.training.suites.sheet import Sheet, Wording

BATCH = 256


@dataclass(frozen=True)
class Examinee:
    """What a suite needs of an encoder; `size` is the bytes of its files."""

    name: str
    templates: tuple[str, ...]
    similarity: SimilaritySpec
    embed_images: Callable[[Sequence[ImageSource]], Rows]
    embed_texts: Callable[[Sequence[str]], Rows]
    dimensions: int = 0
    size: int = 0
    reads_texts: bool = True


@dataclass(frozen=True)
class EmbeddedSheet:
    """The rows of a sheet's pictures and texts, and how cosines become probabilities."""

    pictures: Rows
    texts: Rows
    similarity: SimilaritySpec


def make_examinee(encoder: Encoder) -> Examinee:
    """Return an opened bundle as an examinee; without a text tower it answers only some suites."""
    manifest = encoder.manifest
    if manifest.image is None:
        raise InputError(
            f"bundle {encoder.name!r} has no image tower; all suites ask about pictures",
            field="ENCODER",
        )
    reads_texts = manifest.text is not None
    return Examinee(
        encoder.name,
        manifest.templates,
        manifest.similarity,
        encoder.embed_images,
        encoder.embed_texts if reads_texts else refuse_texts(f"bundle {encoder.name!r}"),
        encoder.embedding_dim,
        sum(entry.bytes for entry in manifest.files),
        reads_texts,
    )


def refuse_texts(name: str) -> Callable[[Sequence[str]], Rows]:
    """Return the error for texts given to an encoder without a text tower."""

    def refuse(texts: Sequence[str]) -> Rows:
        raise InputError(
            f"{name} has no text tower, and this compares pictures with texts; the suite"
            " robustness compares pictures alone",
            field="ENCODER",
        )

    return refuse


def open_examinee(where: str) -> Examinee:
    """Open the bundle at a path or by a name, as an examinee."""
    return make_examinee(open_bundle(where))


def embed_sheet(examinee: Examinee, sheet: Sheet) -> EmbeddedSheet:
    """Return the rows of every picture and text of a sheet."""
    pictures = [
        examinee.embed_images(sheet.pictures[start : start + BATCH])
        for start in range(0, len(sheet.pictures), BATCH)
    ]
    rows = np.concatenate(pictures)
    texts = _embed_wordings(examinee, sheet.texts) if sheet.texts else rows[:0]
    return EmbeddedSheet(rows, texts, examinee.similarity)


def _embed_wordings(examinee: Examinee, wordings: Sequence[Wording]) -> Rows:
    """Return a row for each wording: the mean over its texts, normalised again."""
    known = {text: place for place, text in enumerate(dict.fromkeys(_flatten(wordings)))}
    rows = examinee.embed_texts(list(known))
    means = [rows[[known[text] for text in wording]].mean(axis=0) for wording in wordings]
    return normalise_rows(np.stack(means))


def _flatten(wordings: Sequence[Wording]) -> list[str]:
    return [text for wording in wordings for text in wording]
