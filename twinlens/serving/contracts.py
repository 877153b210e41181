"""The types that pass between stages, and the interface that stages need of an encoder.

`twinlens.bundle.encoder.Encoder` is a `StagedEncoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels, Row, Rows
from twinlens.bundle.class_head import ClassHead
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.tower import TowerName

EncodedImage = bytes | str  # an image file's bytes, or base64 or a data URI of them
Answers = list[Row | Exception]  # one per item, in order


@dataclass
class EmbeddedItems:
    """The results of a request's items, in order."""

    answers: Answers
    tokens: int = 0


class StagedEncoder(Protocol):
    """An encoder split into the stages that the server runs in different threads."""

    @property
    def manifest(self) -> Manifest:
        """Return the bundle's manifest."""
        ...

    @property
    def revision(self) -> str:
        """Return the identity that every embedding carries."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Return d."""
        ...

    @property
    def class_heads(self) -> Sequence[ClassHead]:
        """Return the classifiers that come with the bundle."""
        ...

    @property
    def provider(self) -> str:
        """Return what the towers run on."""
        ...

    @property
    def engines(self) -> Mapping[str, str]:
        """Return the engine of each tower."""
        ...

    def preprocess(self, image: Any) -> Pixels:
        """Decode, resize and crop one image."""
        ...

    def batch_size(self, tower: TowerName) -> int:
        """Return the smallest batch at which a tower reaches its full speed."""
        ...

    def in_flight(self, tower: TowerName) -> int:
        """Return how many batches of a tower its devices run at once."""
        ...

    def encode_pixels(self, pixels: Pixels | Sequence[Pixels]) -> Rows:
        """Return unit rows for pixels, an array (n, height, width, 3) or one for each image."""
        ...

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, truncated to the context but not padded."""
        ...

    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> Rows:
        """Return unit rows for tokenized texts."""
        ...

    def classify(self, embeddings: Rows, bank: Rows) -> tuple[Rows, Rows]:
        """Return scores and similarities (n, m) of embeddings (n, d) and a bank (m, d)."""
        ...

    def attention(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return the attention (n, heads, rows, columns) of pixels, if the bundle has it."""
        ...
