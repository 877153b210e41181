"""Captions as words: which of them name objects, and how to change one grammatically.

A word is changed only if its neighbours show its role: a noun stands after an article and before a
preposition or the end. What must stay true: a changed caption has `a` or `an` as its next word
requires.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.training.data.word_kinds import (
    CLOSERS,
    COLOURS,
    NUMBERS,
    OPENERS,
    WORD,
    find_nouns,
)

OPPOSITES = {
    "big": "small", "large": "small", "small": "large", "little": "big", "tall": "short",
    "short": "tall", "young": "old", "old": "new", "new": "old", "long": "short", "open": "closed",
    "closed": "open", "empty": "full", "full": "empty", "clean": "dirty", "dirty": "clean",
    "dark": "bright", "bright": "dark", "wooden": "metal", "metal": "wooden", "wet": "dry",
}  # fmt: skip
# Words in a noun's place that name no object, so that replacing them would change little.
VAGUE = frozenset((
    "bunch", "couple", "group", "lot", "pair", "side", "top", "front", "back", "end", "middle",
    "number", "variety", "way", "picture", "photo", "image", "view", "other", "one", "part",
    "piece", "kind", "type", "set", "row", "area", "time", "day", "close", "left", "right",
    "bit", "few", "couples", "groups", "sides", "pictures", "photos", "images", "views",
    "others", "pieces", "kinds", "types", "sets", "rows",
))  # fmt: skip
_AFTER = CLOSERS - {"of"}  # a body of water, a cup of coffee
_VOWELS = re.compile(r"(?!uni|one|eu|use)[aeiou]|hour|honest", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(a|an)(?= +([^\W_]+))", re.IGNORECASE)
_COUNTED = re.compile(r"\b(?:a|an) +([^\W_]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Vocabulary:
    """The nouns of a corpus that name objects: singular ones, and plurals."""

    singular: tuple[str, ...]
    plural: tuple[str, ...]

    def kind_of(self, noun: str) -> tuple[str, ...]:
        """Return the nouns of the same number; empty for other words."""
        return next((kind for kind in (self.singular, self.plural) if noun in kind), ())


@dataclass(frozen=True)
class Word:
    """A word of a caption in lower case, with its position."""

    text: str
    start: int
    stop: int


class Caption:
    """A caption as words, with those of all captions of its picture, and a random generator."""

    def __init__(
        self, text: str, seen: Collection[str], nouns: Vocabulary, rng: np.random.Generator
    ) -> None:
        self.text = text
        self.seen = seen
        self.nouns = nouns
        self.words = [Word(m.group().lower(), *m.span()) for m in WORD.finditer(text)]
        self._rng = rng

    def draw(self, items: Sequence[str]) -> str | None:
        """Return an item that no caption of the picture contains; None if all are contained."""
        left = [item for item in items if item not in self.seen]
        return left[int(self._rng.integers(len(left)))] if left else None

    def choose(self, places: Sequence[int]) -> int:
        """Return one of the places."""
        return places[int(self._rng.integers(len(places)))]

    def objects(self) -> list[int]:
        """Return the positions of nouns, judged by their neighbours."""
        return [
            place
            for place in range(1, len(self.words))
            if self.nouns.kind_of(self.words[place].text)
            and self._opens(self.words[place - 1].text)
            and (place + 1 == len(self.words) or self.words[place + 1].text in _AFTER)
        ]

    def among(self, kind: Collection[str]) -> list[int]:
        """Return the positions of words of a kind that describe the next word."""
        last = len(self.words) - 1
        return [
            place
            for place, word in enumerate(self.words[:last])
            if word.text in kind and self.words[place + 1].text not in CLOSERS
        ]

    def rewrite(self, changes: dict[int, str]) -> str:
        """Return the caption with the words at some positions replaced."""
        text = self.text
        for place in sorted(changes, reverse=True):
            word = self.words[place]
            new = changes[place]
            if word.stop - word.start > 1 and text[word.start : word.stop].isupper():
                new = new.upper()
            elif text[word.start].isupper():
                new = new[0].upper() + new[1:]
            text = text[: word.start] + new + text[word.stop :]
        return mend_articles(text)

    def between(self, first: int, second: int) -> set[str]:
        """Return the words between two positions."""
        return {word.text for word in self.words[first + 1 : second]}

    @staticmethod
    def _opens(word: str) -> bool:
        return word in OPENERS or word in COLOURS or word in NUMBERS or word in OPPOSITES


def mend_articles(text: str) -> str:
    """Return the text with `a` and `an` corrected for the words after them."""

    def mend(match: re.Match[str]) -> str:
        article = "an" if _VOWELS.match(match[2]) else "a"
        if match[1].isupper() and match[2].isupper():
            return article.upper()
        return article.capitalize() if match[1][0].isupper() else article

    return _ARTICLE.sub(mend, text)


def read_vocabulary(captions: Sequence[str]) -> Vocabulary:
    """Return the nouns of captions that name objects; singular ones occur with `a` somewhere."""
    counted = {match[1].lower() for text in captions for match in _COUNTED.finditer(text)}
    singular, plural = (
        tuple(noun for noun in nouns if noun not in VAGUE and len(noun) > 2)
        for nouns in find_nouns(captions)
    )
    return Vocabulary(tuple(noun for noun in singular if noun in counted), plural)
