"""Which common words describe which image: `dog` every dog, whatever its full label is.

A label such as "Hundegesicht" does not teach "Hund", and a common word fits several images. So the
loss ties each word, in all languages, to all images that it describes, and to its translations.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recipes.builtin.corpus import Corpus
from recipes.builtin.words import ENGLISH, OTHERS, Words

EXACT, NAMED, TAGGED = 1.0, 0.5, 0.25  # how well a word describes an image
_LANGUAGES_A_WORD = 3  # of the ten others, per draw


@dataclass(frozen=True)
class Said:
    """Words drawn for a batch: text i is word `words[i]`; the first `english` ones are English.

    `truth` (images, texts) is how well each text describes each image, 0 = not at all.
    """

    texts: list[str]
    words: Tensor
    english: int
    truth: Tensor


class Lexicon:
    """The common words, and how well each describes each image of a corpus."""

    def __init__(self, corpus: Corpus, words: Words, rng: random.Random | None = None) -> None:
        self._words, self._rng = words, rng or random.Random(0)
        self.names = sorted(words.keywords)
        self._number = {name: i for i, name in enumerate(self.names)}
        known = {key: self.weigh(concept) for key, concept in corpus.emoji.concepts.items()}
        icons = [self.weigh({"label": row["caption"]}) for row in corpus.icons.rows]
        worn = [self.weigh({"label": words.clothes[r["cls"]]["en"]}) for r in corpus.clothes.rows]
        emoji = [known[row["hexcode"]] for row in corpus.emoji.rows]
        rows = [*emoji, *icons, *worn]
        self._truth = torch.stack(rows) if rows else torch.zeros(0, len(self.names))

    def say(self, indices: Sequence[int], most: int = 72, more: int = 0) -> Said:
        """Draw words that describe some of the images, in English and in other languages.

        `more` others are added, as negatives and for their translations.
        """
        truth = self._truth[torch.tensor(indices)]
        chosen = self._choose(truth, most)
        rest = [word for word in range(len(self.names)) if word not in chosen]
        chosen += self._rng.sample(rest, min(more, len(rest)))
        said = [(word, self._text(word, ENGLISH, 0.3)) for word in chosen]
        for word in chosen:
            for language in self._rng.sample(OTHERS, _LANGUAGES_A_WORD):
                said.append((word, self._text(word, language, 0.1)))
        words = torch.tensor([word for word, _ in said], dtype=torch.long)
        return Said([text for _, text in said], words, len(chosen), truth[:, words])

    def weigh(self, concept: dict[str, Any]) -> Tensor:
        """Return how well each word describes a concept."""
        label = self._plain(str(concept["label"]))
        tags = [self._plain(tag) for tag in concept.get("tags") or []]
        weights = torch.zeros(len(self.names))
        for name in self._find([label, *tags]):
            place = self._number[name]
            weights[place] = TAGGED
            if _holds(label, name):
                weights[place] = EXACT if label in (name, f"{name} face") else NAMED
        return weights

    def _choose(self, truth: Tensor, most: int) -> list[int]:
        """Return words, each drawn for one of the images, without repetition."""
        spoken = truth[truth.sum(1) > 0]
        if not len(spoken):
            return []
        drawn = torch.multinomial(spoken, 1)[:, 0].tolist()
        words = list(dict.fromkeys(drawn))
        return self._rng.sample(words, min(most, len(words)))

    def _text(self, word: int, language: str, chance: float) -> str:
        name = self.names[word]
        return self._words.fill(self._words.say(name, language), language, chance, self._rng)

    def _find(self, phrases: Iterable[str]) -> list[str]:
        """Return the words in the phrases, but not parts of longer ones: a hot dog is no dog."""
        phrases = list(phrases)
        found = [name for name in self.names if any(_holds(phrase, name) for phrase in phrases)]
        parts = {part for name in found if " " in name for part in name.split()}
        return [name for name in found if name not in parts]

    def _plain(self, phrase: str) -> str:
        """Return a phrase in lower case with known variants replaced: `eyes` by `eye`."""
        words = phrase.lower().replace(":", " ").replace(",", " ").split()
        return " ".join(self._stem(word) for word in words)

    def _stem(self, word: str) -> str:
        if word in self._number:
            return word
        if word in self._words.aliases:
            return self._words.aliases[word]
        return word[:-1] if word.endswith("s") and word[:-1] in self._number else word


def _holds(phrase: str, name: str) -> bool:
    return f" {name.lower()} " in f" {phrase} "
