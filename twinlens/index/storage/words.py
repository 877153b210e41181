"""Distinct strings in code-point order, as one block of UTF-8: read from a map, never held whole.

UTF-8 sorts as code points do, and no character's bytes occur inside of another's; so strings are
compared and searched as bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.vectors.arrays import Mask

BLOCK = 1 << 22  # bytes of text that `contain` searches at a time


@dataclass(frozen=True)
class Words:
    """Word i is `text[offsets[i] : offsets[i + 1]]`."""

    offsets: npt.NDArray[Any]  # (n + 1,) uint32 or uint64
    text: npt.NDArray[np.uint8]

    @staticmethod
    def pack(words: Sequence[bytes]) -> Words:
        """Return words that are distinct and in order."""
        ends = np.cumsum(np.fromiter(map(len, words), np.uint64, len(words)), dtype=np.uint64)
        size = int(ends[-1]) if len(ends) else 0
        offsets = np.concatenate([np.zeros(1, np.uint64), ends])
        text = np.frombuffer(b"".join(words), np.uint8)
        return Words(offsets.astype("<u4" if size < 1 << 32 else "<u8"), text)

    @staticmethod
    def encode(words: Iterable[str]) -> Words:
        """Return strings that are distinct and in order."""
        return Words.pack([word.encode() for word in words])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def find(self, word: str) -> int:
        """Return the place of a word, -1 if it is none of them."""
        place, wanted = self.position(word, "left"), _bytes(word)
        return place if place < len(self) and self._at(place) == wanted else -1

    def position(self, word: str, side: str) -> int:
        """Return how many words come before `word`; `right` counts itself among them."""
        bisect = bisect_left if side == "left" else bisect_right
        return bisect(range(len(self)), _bytes(word), key=self._at)

    def contain(self, part: str) -> Mask:
        """Return one flag per word: whether it contains `part`."""
        needle = np.frombuffer(_bytes(part), np.uint8)
        found = np.full(len(self), not len(needle), dtype=bool)
        for start in range(0, len(self.text) if len(needle) else 0, BLOCK):
            block = self.text[start : start + BLOCK + len(needle) - 1]
            places = np.flatnonzero(block[: max(0, len(block) - len(needle) + 1)] == needle[0])
            for at in range(1, len(needle)):
                places = places[block[places + at] == needle[at]]
            places = (places + start).astype(self.offsets.dtype)  # else all offsets are converted
            word = np.searchsorted(self.offsets, places, side="right") - 1
            found[word[self.offsets[word + 1] - places >= len(needle)]] = True
        return found

    def read(self, place: int) -> str:
        """Return the word at a place; what is no text of its own is replaced."""
        return self._at(place).decode("utf-8", "replace")

    def take(self, chosen: Mask) -> list[bytes]:
        """Return the chosen words."""
        text = self.text.tobytes()
        bounds = pairwise(self.offsets.tolist())
        return [text[low:high] for (low, high), kept in zip(bounds, chosen, strict=True) if kept]

    def _at(self, place: int) -> bytes:
        return self.text[int(self.offsets[place]) : int(self.offsets[place + 1])].tobytes()


def _bytes(word: str) -> bytes:
    """Return a word of a query, which may hold what no stored one does: half a surrogate pair."""
    return word.encode("utf-8", "surrogatepass")


def join_words(parts: Sequence[tuple[Words, Mask]]) -> tuple[Words, list[npt.NDArray[np.int32]]]:
    """Return the chosen words of all parts as one, and the new place of each part's words.

    The words are on the heap meanwhile, those of one field of one segment; the parts are in order,
    which makes sorting them a merge.
    """
    words = [word for part, chosen in parts for word in part.take(chosen)]
    order = np.fromiter(
        sorted(range(len(words)), key=words.__getitem__), dtype=np.int64, count=len(words)
    )
    in_order = [words[place] for place in order.tolist()]
    is_new = np.fromiter((a != b for a, b in pairwise(in_order)), bool, max(0, len(words) - 1))
    is_new = np.concatenate([np.ones(min(1, len(words)), bool), is_new])
    place_of = np.empty(len(words), np.int32)
    place_of[order] = np.cumsum(is_new) - 1
    joined = Words.pack([word for word, new in zip(in_order, is_new, strict=True) if new])
    places, start = [], 0
    for part, chosen in parts:
        numbers = np.zeros(len(part), np.int32)
        count = int(np.count_nonzero(chosen))
        numbers[chosen] = place_of[start : start + count]
        places.append(numbers)
        start += count
    return joined, places
