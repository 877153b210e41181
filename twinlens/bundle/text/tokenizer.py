"""Texts to token ids: the single implementation for training, export, index and server.

What must stay true: a bundle's tokenizer is opened only from a file of that bundle, never by a name
that needs the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from twinlens.bundle.manifest import TextSpec, check_path
from twinlens.bundle.text.clip_tokenizer import ClipTokenizer
from twinlens.bundle.text.clip_vocabulary import read_vocabulary
from twinlens.errors import BundleError


class Tokenizer(Protocol):
    """Converts texts to ids. Thread-safe."""

    context_length: int
    pad_id: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with special tokens, unpadded, truncated to the context."""
        ...

    def batch(self, texts: Sequence[str], *, cut: bool) -> npt.NDArray[np.int64]:
        """Return ids (n, length): padded to the longest text if `cut`, else to the context."""
        ...


def open_tokenizer(spec: TextSpec, folder: Path) -> Tokenizer:
    """Return the tokenizer that a bundle's manifest names, read from the bundle's folder."""
    path = folder / check_path(spec.tokenizer)
    if not path.is_file():
        raise BundleError(f"tokenizer file {spec.tokenizer!r} is missing from {folder}")
    if spec.context_length < 2:
        raise BundleError(
            f"bundle.json: text.context_length is {spec.context_length}; it must be at least 2"
        )
    if spec.tokenizer_kind == "clip":
        return ClipTokenizer(read_vocabulary(path), spec.context_length, spec.pad_id)
    # Imported here: a CLIP bundle does not need the library.
    from twinlens.bundle.text.huggingface_tokenizer import HuggingFaceTokenizer

    return HuggingFaceTokenizer(path, spec.context_length, pad_id=spec.pad_id, clean=spec.clean)
