"""Words that are not in the data sets: templates, groups, clothes and keywords, by language.

They are written for this project and kept in `words.json`; labels of single emoji come from Unicode
CLDR through the data.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ru", "ja", "zh", "ko", "hi")
ENGLISH, *OTHERS = LANGUAGES


@dataclass(frozen=True)
class Words:
    """Templates by language; names by group or clothing class, then by language."""

    templates: dict[str, list[str]]
    groups: dict[str, dict[str, str]]  # the nine groups of Unicode's emoji
    clothes: dict[str, dict[str, str]]  # the seventeen classes of the photographs
    clothes_in_english: dict[str, list[str]]  # the first names the class in evaluation
    keywords: dict[str, dict[str, str]]  # common English words in the ten other languages
    aliases: dict[str, str]  # other words and forms -> the common word with the same meaning
    icon_groups: dict[str, str]  # categories of icons -> the group of emoji of the same kind

    def say(self, keyword: str, language: str) -> str:
        """Return a common English word in a language."""
        return keyword if language == ENGLISH else self.keywords[keyword][language]

    def fill(self, text: str, language: str, chance: float, rng: random.Random) -> str:
        """Return `text`, with the given probability inside a template of its language."""
        if rng.random() >= chance:
            return text
        return rng.choice(self.templates[language]).format(text)


@cache
def read_words() -> Words:
    """Return the words; read once."""
    return Words(**json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8")))
