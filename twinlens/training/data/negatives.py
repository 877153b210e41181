"""Captions that are almost true of an image, for methods that learn from them.

Those listed in the data (`negatives` in the index) come first. Others are made by replacing one
word of the true caption by another of its kind: a colour, a number, or a noun of the corpus's
captions. Kinds are inferred from word positions, without a parser, so a few replacements will be
odd.

What must stay true: a made negative differs from every caption of its image and depends only on the
random draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from twinlens.training.data.records import Record
from twinlens.training.data.word_kinds import COLOURS, NUMBERS, WORD, find_nouns

TRIES = 8  # tries to find a replacement that is no caption of the image


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
        """Return negatives of an image for the caption used in this step."""
        given = record.negatives
        order = torch.randperm(len(given), generator=draws).tolist()[: self.count]
        found = [given[place] for place in order]
        while len(found) < self.count:
            found.append(self._make(record, caption, draws))
        return found

    def _make(self, record: Record, caption: str, draws: torch.Generator) -> str:
        """Return the caption with a word replaced; if that fails, another image's caption."""
        true = {text.lower() for text in record.captions}
        for _ in range(TRIES):
            text = self._swap(caption, draws)
            if text.lower() not in true:
                return text
        for _ in range(TRIES):
            text = self._captions[_draw(len(self._captions), draws)]
            if text.lower() not in true:
                return text
        return f"not {caption}"  # the corpus has a single caption

    def _swap(self, caption: str, draws: torch.Generator) -> str:
        places = [m for m in WORD.finditer(caption) if m.group().lower() in self._kind_of]
        if not places:
            return caption
        place = places[_draw(len(places), draws)]
        kind = self._kinds[self._kind_of[place.group().lower()]]
        other = kind[_draw(len(kind), draws)]
        return caption[: place.start()] + other + caption[place.end() :]


def _draw(count: int, draws: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=draws))
