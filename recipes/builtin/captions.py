"""The texts of an image in a training step, sampled anew each time.

Each image gets an English text (label, keywords, template); each emoji concept in a batch gets
texts in several of the ten other languages. What must stay true: languages are drawn evenly, since
rarely drawn languages are learned badly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from recipes.builtin.corpus import Corpus, subgroup
from recipes.builtin.words import ENGLISH, LANGUAGES, OTHERS, Words

LANGUAGES_A_STEP = 4  # of the ten others, for each emoji concept of a batch
CLOTHES_LANGUAGES_A_STEP = 2


class Captioner:
    """Draws texts for the images of a corpus; indices run over emoji, icons, then clothes."""

    def __init__(self, corpus: Corpus, words: Words, rng: random.Random) -> None:
        self._corpus, self._words, self._rng = corpus, words, rng
        self._starts = (len(corpus.emoji), len(corpus.emoji) + len(corpus.icons))
        self.groups = sorted(words.groups)
        self.subgroups = sorted({subgroup(c) for c in corpus.emoji.concepts.values()})
        self.clothes = sorted(words.clothes)

    def english(self, index: int) -> str:
        """Return an English text of the image."""
        part, row = self._find(index)
        if part == "emoji":
            return self._english_emoji(self._corpus.emoji.concept(row))
        if part == "icons":
            return self._icon(self._corpus.icons.rows[row])
        names = self._words.clothes_in_english[self._corpus.clothes.rows[row]["cls"]]
        return self._fill(self._rng.choice(names), ENGLISH, 0.5)

    def others(self, indices: Sequence[int]) -> list[tuple[int, str]]:
        """Return texts in other languages, each with the index of an image that it describes."""
        first: dict[str, int] = {}  # styles of one concept share their texts
        said = []
        worn: dict[str, int] = {}
        for index in indices:
            part, row = self._find(index)
            if part == "emoji":
                first.setdefault(self._corpus.emoji.rows[row]["hexcode"], index)
            elif part == "clothes":
                worn.setdefault(self._corpus.clothes.rows[row]["cls"], index)
        for name, index in worn.items():
            for language in self._rng.sample(OTHERS, CLOTHES_LANGUAGES_A_STEP):
                said.append((index, self._clothes(name, language)))
        for hexcode, index in first.items():
            for language in self._rng.sample(OTHERS, LANGUAGES_A_STEP):
                text = self._translate(self._corpus.emoji.concepts[hexcode], language)
                if text:
                    said.append((index, self._fill(text, language, 0.15)))
        return said

    def bank(self) -> list[str]:
        """Return one text for each group, each subgroup and each clothing class, in that order."""
        return [
            *(self._group(group) for group in self.groups),
            *(self._fill(name, ENGLISH, 0.2) for name in self.subgroups),
            *(self._clothes_of_bank(name) for name in self.clothes),
        ]

    def icon_group(self, row: dict[str, Any]) -> int:
        """Return the index of the group that an icon's categories or family imply, or -1."""
        known = self._words.icon_groups
        names = (row.get("style"), *(row.get("categories") or []))
        found = {known[name] for name in names if name in known}
        return self.groups.index(found.pop()) if len(found) == 1 else -1

    def _find(self, index: int) -> tuple[str, int]:
        icons, clothes = self._starts
        if index < icons:
            return "emoji", index
        return ("icons", index - icons) if index < clothes else ("clothes", index - clothes)

    def _english_emoji(self, concept: dict[str, Any]) -> str:
        label, tags, die = concept["label"], concept.get("tags") or [], self._rng.random()
        if tags and die < 0.25:
            return " ".join(self._rng.sample(tags, min(len(tags), self._rng.randint(1, 3))))
        if tags and die < 0.35:
            return f"{label} {self._rng.choice(tags)}"
        return self._fill(label, ENGLISH, 0.35)

    def _translate(self, concept: dict[str, Any], language: str) -> str | None:
        """Return the label in a language, or occasionally one of its keywords."""
        known = self._words.keywords
        keywords = [word for word in _list_words(concept) if word in known]
        if keywords and self._rng.random() < 0.15:
            return known[self._rng.choice(keywords)][language]
        label: str | None = concept["labels"].get(language)
        return label

    def _icon(self, row: dict[str, Any]) -> str:
        categories = row.get("categories") or []
        if categories and self._rng.random() < 0.1:
            return f"{row['caption']} {self._rng.choice(categories).lower()}"
        return self._fill(row["caption"], ENGLISH, 0.3)

    def _group(self, group: str) -> str:
        if self._rng.random() < 0.2:
            return group.replace("-", " ")
        language = self._rng.choice(LANGUAGES) if self._rng.random() < 0.5 else ENGLISH
        return self._fill(self._words.groups[group][language], language, 0.4)

    def _clothes_of_bank(self, name: str) -> str:
        if self._rng.random() < 0.5:
            return self._fill(self._rng.choice(self._words.clothes_in_english[name]), ENGLISH, 0.5)
        return self._clothes(name, self._rng.choice(LANGUAGES))

    def _clothes(self, name: str, language: str) -> str:
        return self._fill(self._words.clothes[name][language], language, 0.3)

    def _fill(self, text: str, language: str, chance: float) -> str:
        return self._words.fill(text, language, chance, self._rng)


def list_texts(corpus: Corpus, words: Words) -> list[str]:
    """Return the texts that the tokenizer is trained on, frequent ones repeated."""
    texts: list[str] = []
    for concept in corpus.emoji.concepts.values():
        texts += [concept["label"]] * 6 + (concept.get("tags") or []) * 2 + [subgroup(concept)]
        texts += list(concept["labels"].values()) * 5
    texts += [row["caption"] for row in corpus.icons.rows]
    for word, named in words.keywords.items():
        texts += [word, *named.values()] * 10
    for named in (*words.clothes.values(), *words.groups.values()):
        texts += list(named.values()) * 20
    for names in words.clothes_in_english.values():
        texts += names * 20
    for templates in words.templates.values():
        texts += [template.replace("{}", "") for template in templates] * 50
    return texts + _letters()


def _list_words(concept: dict[str, Any]) -> list[str]:
    """Return the keywords of a concept and the words of its label, each once."""
    label = str(concept["label"]).replace(":", " ").split()
    return list(dict.fromkeys([*(concept.get("tags") or []), *label]))


def _letters() -> list[str]:
    """Return single letters of the scripts, so that rare names can be tokenized."""
    spans = ((33, 127), (0xA1, 0x180), (0x410, 0x450), (0x3041, 0x30FF))
    return [chr(code) for first, last in spans for code in range(first, last)]
