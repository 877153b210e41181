"""Steps shared by all tokenizers: check the texts, pad the ids to an array.

What must stay true: an error names the bad text as `texts[i]`, before anything is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from twinlens.errors import InputError


def check_texts(texts: Sequence[str]) -> None:
    """Raise unless `texts` is a non-empty list of non-empty strings, naming the first bad one."""
    if isinstance(texts, (str, bytes)):
        raise InputError(
            f"texts is one {type(texts).__name__}; expected a list of strings: wrap it in [ ]",
            field="texts",
        )
    if not hasattr(texts, "__len__"):
        raise InputError(
            f"texts is of type {type(texts).__name__}; expected a list of strings", field="texts"
        )
    if len(texts) == 0:
        raise InputError("texts is empty; give at least one string", field="texts")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InputError(f"texts[{i}] is of type {kind}; expected str", field=f"texts[{i}]")
        if not text:
            raise InputError(
                f"texts[{i}] is an empty string; give at least one character", field=f"texts[{i}]"
            )


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int, length: int) -> npt.NDArray[np.int64]:
    """Return the rows as one int64 array (n, length), `pad_id` after the end of each."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    out = np.full((len(rows), length), pad_id, np.int64)
    filled = np.arange(length) < lengths[:, None]  # (n, length)
    out[filled] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    return out


def longest(rows: Sequence[Sequence[int]]) -> int:
    """Return the length of the longest row, 0 without rows."""
    return max(map(len, rows), default=0)
