"""Any `tokenizer.json` of Hugging Face's `tokenizers`, for text towers other than CLIP's.

What must stay true: nothing is downloaded; special tokens are those of the file's post-processor,
and a truncated text keeps its closing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from twinlens.bundle.text.text_cleaning import CLEANERS
from twinlens.bundle.text.token_batches import check_texts, longest, pad_rows
from twinlens.errors import BundleError, InputError


class HuggingFaceTokenizer:
    """Ids from a `tokenizer.json`, with the bundle's padding and truncation."""

    def __init__(
        self, path: Path, context_length: int, *, pad_id: int = 0, clean: str = "none"
    ) -> None:
        self.context_length = context_length
        self.pad_id = pad_id
        self._clean = CLEANERS[clean]
        self._tokenizer = _read(path)
        self._tokenizer.no_padding()
        self._check(path)
        self._tokenizer.enable_truncation(context_length, direction="right")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, unpadded, at most `context_length` of them."""
        check_texts(texts)
        cleaned = [self._clean(text) for text in texts]
        _refuse_surrogates(cleaned)
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cleaned)]

    def batch(self, texts: Sequence[str], *, cut: bool) -> npt.NDArray[np.int64]:
        """Return ids (n, length): padded to the longest text if `cut`, else to the context."""
        rows = self.encode(texts)
        return pad_rows(rows, self.pad_id, longest(rows) if cut else self.context_length)

    def _check(self, path: Path) -> None:
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if not 0 <= self.pad_id < size:
            raise BundleError(
                f"bundle.json: text.pad_id is {self.pad_id}; {path.name} has ids 0 to {size - 1}"
            )
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if special >= self.context_length:
            raise BundleError(
                f"bundle.json: text.context_length {self.context_length} leaves no room for a text:"
                f" {path.name} adds {special} special tokens"
            )


def _refuse_surrogates(texts: list[str]) -> None:
    for i, text in enumerate(texts):
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError(
                f"texts[{i}] holds half a surrogate pair, which is not a character; remove it",
                field=f"texts[{i}]",
            )


def _read(path: Path) -> tokenizers.Tokenizer:
    try:
        content = path.read_bytes()
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exception for every fault of a file
        raise BundleError(f"tokenizer file {path.name} cannot be read: {error}") from error
