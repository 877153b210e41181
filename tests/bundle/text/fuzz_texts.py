"""Difficult strings for a tokenizer: a seeded, deterministic stream."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator

WORDS = """
    a photo of the dog cats running on beach it's don't we'll they've I'm you're he'd CAT Naïve
    São Zürich straße Ελλάδα ΟΔΟΣ Москва 東京 서울 ไทย हिन्दी عربى עברית 3000x2000 fig.1 T-shirt
""".split()  # noqa: SIM905
ENTITIES = "&amp; &lt; &gt; &quot; &#39; &#x1F600; &amp;amp; &nbsp; &eacute; &notanentity; & &; &#;"
SPECIAL = ["<start_of_text>", "<end_of_text>", "<START_OF_TEXT>", "<\u017ftart_of_text>", "</w>"]
EMOJI = ["😀", "👩\u200d🚀", "🇩🇪", "👍🏽", "❤️", "🏴\U000e0067\U000e0062\U000e007f", "☕", "🫠"]
SPACES = " \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000\u200b\ufeff"
CONTROLS = "".join(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0)])) + "\u200e\u202e\ufffd"
MOJIBAKE = ["Ã©", "â€™", "â€œ", "Ð¼", "ï»¿", "Â£", "ŒÆ", "ﬁ"]
# Characters with unusual case mappings.
FOLDED = ["\u0130", "\uff21", "\u017f", "\u212a", "'\u017f", "\u2019s"]
# Ranges with scripts, letters and numbers of all sorts, besides whole planes.
RANGES = [(0x80, 0x250), (0x370, 0x600), (0x900, 0xE00), (0x2000, 0x2400), (0x3000, 0x3100),
          (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFB00, 0xFFFE), (0x1D400, 0x1D800),
          (0x1F300, 0x1FB00)]  # fmt: skip


def fuzz_texts(count: int, seed: int = 0) -> Iterator[str]:
    """Yield `count` non-empty strings without surrogates."""
    rng = random.Random(seed)
    makers: list[Callable[[random.Random], str]] = [
        _caption, _caption, _ascii, _any_plane, _one_range, _mixed, _mixed, _joined, _rare_length
    ]  # fmt: skip
    for _ in range(count):
        yield rng.choice(makers)(rng) or " "


def _caption(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 14)))


def _ascii(rng: random.Random) -> str:
    return "".join(rng.choices(string.printable, k=rng.randint(1, 50)))


def _any_plane(rng: random.Random) -> str:
    return "".join(_letter(rng, 0, 0x10FFFF) for _ in range(rng.randint(1, 12)))


def _one_range(rng: random.Random) -> str:
    low, high = rng.choice(RANGES)
    return "".join(_letter(rng, low, high) for _ in range(rng.randint(1, 20)))


def _mixed(rng: random.Random) -> str:
    """Random pieces of every kind, concatenated."""
    pieces = []
    for _ in range(rng.randint(1, 8)):
        kind = rng.randrange(10)
        source = (WORDS, ENTITIES.split(), SPECIAL, EMOJI, SPACES, CONTROLS, MOJIBAKE, FOLDED)
        if kind < len(source):
            pieces.append(rng.choice(source[kind]))
        elif kind == 8:
            pieces.append(rng.choice(WORDS).swapcase() + rng.choice(SPACES))
        else:
            pieces.append("".join(rng.choices("0123456789²½Ⅷ٣", k=rng.randint(1, 6))))
    return "".join(pieces)


def _joined(rng: random.Random) -> str:
    return rng.choice(SPACES).join(rng.choices(WORDS + EMOJI + SPECIAL, k=rng.randint(1, 10)))


def _rare_length(rng: random.Random) -> str:
    """Mostly short texts; sometimes a very long word, or more words than a context holds."""
    draw = rng.random()
    if draw < 0.004:
        return "".join(rng.choices(string.ascii_lowercase + "é", k=rng.randint(100, 400)))
    if draw < 0.03:
        return " ".join(rng.choices(WORDS, k=rng.randint(80, 250)))
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 25)))


def _letter(rng: random.Random, low: int, high: int) -> str:
    while 0xD800 <= (code := rng.randint(low, high)) <= 0xDFFF:
        pass
    return chr(code)
