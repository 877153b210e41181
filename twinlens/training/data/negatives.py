"""Captions that are nearly true of an image, for methods that learn from them.

Those listed in the data (`negatives` in the index) come first. Others are made by swapping one word
of the true caption for another of its kind: a colour, a number, or a noun of the corpus's own
captions. Kinds are inferred from word positions, without a parser, so a few swaps will be odd. What
must stay true: a made negative differs from every caption of its image and depends only on draws.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from twinlens.training.data.records import Record


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words("black blue brown gold gray green grey orange pink purple red silver white yellow")
NUMBERS = _words("one two three four five six seven eight nine ten eleven twelve")
OPENERS = _words("a an the his her its their some")  # a noun may stand right after
# What may stand after a noun; a word that mostly has another behind it describes one instead.
CLOSERS = _words(
    "a an and are as at behind being beside by facing for from has have holding in inside into is"
    " made near next of off on onto or outside over sitting standing that the to under up wearing"
    " while who with without"
)
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
TRIES = 8  # draws for a swap that is no caption of the image


class Negatives:
    """Gives each image `count` captions that are not its own."""

    def __init__(self, records: Sequence[Record], count: int) -> None:
        self.count = count
        self._captions = [text for record in records for text in record.captions]
        self._kinds = (sorted(COLOURS), sorted(NUMBERS), *find_nouns(self._captions))
        self._kind_of = {
            word: number for number, kind in enumerate(self._kinds) for word in reversed(kind)
        }

    def of(self, record: Record, caption: str, draws: torch.Generator) -> list[str]:
        """Return negatives of an image whose caption of this step is given."""
        given = record.negatives
        order = torch.randperm(len(given), generator=draws).tolist()[: self.count]
        found = [given[place] for place in order]
        while len(found) < self.count:
            found.append(self._make(record, caption, draws))
        return found

    def _make(self, record: Record, caption: str, draws: torch.Generator) -> str:
        """Return the caption with a word swapped, or where none can be, another image's."""
        true = {text.lower() for text in record.captions}
        for _ in range(TRIES):
            text = self._swap(caption, draws)
            if text.lower() not in true:
                return text
        for _ in range(TRIES):
            text = self._captions[_draw(len(self._captions), draws)]
            if text.lower() not in true:
                return text
        return f"not {caption}"  # a corpus of one caption alone

    def _swap(self, caption: str, draws: torch.Generator) -> str:
        places = [m for m in WORD.finditer(caption) if m.group().lower() in self._kind_of]
        if not places:
            return caption
        place = places[_draw(len(places), draws)]
        kind = self._kinds[self._kind_of[place.group().lower()]]
        other = kind[_draw(len(kind), draws)]
        return caption[: place.start()] + other + caption[place.end() :]


def find_nouns(captions: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return words used as nouns in the captions: singular ones, and plurals."""
    opened: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    for caption in captions:
        words = [match.group().lower() for match in WORD.finditer(caption)]
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
            opened[word] += before in OPENERS or before in COLOURS or before in NUMBERS
            closed[word] += 1 if not after or after in CLOSERS else -1
    other = COLOURS | NUMBERS | OPENERS | CLOSERS
    nouns = sorted(
        word
        for word, times in opened.items()
        if times and closed[word] > 0 and word not in other and not word.isdigit()
    )
    plural = [word for word in nouns if word.endswith("s") and not word.endswith("ss")]
    return [word for word in nouns if word not in set(plural)], plural


def _draw(count: int, draws: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=draws))
