"""Kinds of words in captions, inferred from their positions: colours, numbers, nouns.

There is no parser, so a few words are misjudged. What must stay true: this module needs no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words("black blue brown gold gray green grey orange pink purple red silver white yellow")
NUMBERS = _words("one two three four five six seven eight nine ten eleven twelve")
OPENERS = _words("a an the his her its their some")  # a noun may follow directly
# What may follow a noun; a word mostly followed by another kind is a modifier.
CLOSERS = _words(
    "a an and are as at behind being beside by facing for from has have holding in inside into is"
    " made near next of off on onto or outside over sitting standing that the to under up wearing"
    " while who with without"
)
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def find_nouns(captions: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the words used as nouns in the captions: singular ones, and plurals."""
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
