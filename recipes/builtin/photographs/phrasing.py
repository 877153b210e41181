"""The phrasing of strings in training: by kind and language, with templates, plurals and typos.

What must stay true: a batch depends only on its random numbers, so that any process can draw any
batch.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recipes.builtin.photographs.meanings import ENGLISH, Saying

TEMPLATES = {
    "en": (
        *("a photo of a {}", "a picture of {}", "photo of the {}", "a {} in the wild"),
        *("this is a {}", "a close-up of a {}", "an image of {}", "some {}", "the {}", "a {}"),
        *("picture with {}", "my {}", "photos of {}", "a photo of a {}."),
    ),
    "de": ("ein Foto von {}", "ein Bild von einem {}", "Bild mit {}"),
    "fr": ("une photo de {}", "une image d'un {}", "photo avec {}"),
    "es": ("una foto de {}", "una imagen de un {}", "foto con {}"),
    "it": ("una foto di {}", "un'immagine di {}"),
    "pt": ("uma foto de {}", "uma imagem de {}"),
    "ru": ("фото: {}", "{} на фото"),
    "ja": ("{}の写真", "{}の画像"),
    "zh": ("{}的照片", "一张{}的照片"),
    "ko": ("{} 사진",),
    "nl": ("een foto van {}", "afbeelding van een {}"),
}
SHARES = {
    ("class", "en"): 0.19,
    ("own", "en"): 0.11,
    ("own", ""): 0.33,  # "" = any other language, evenly
    ("names", ""): 0.11,
    ("far", "en"): 0.03,
    ("far", ""): 0.04,
    ("gloss", "en"): 0.02,
    ("caption", "en"): 0.17,
}
_TEMPLATE, _PLURAL, _TYPO, _PAIR = 0.3, 0.15, 0.05, 0.06
_THINNED = 0.15  # of a caption's words
_JOINTS = (" and ", " with a ", " next to a ", ", ", " on a ")


@dataclass(frozen=True)
class Said:
    """A batch: texts, the numbers of their target rows, and their trust.

    The target of a text with two names is the unit mixture of both rows, with `share` of the first.
    """

    texts: list[str]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float32]
    weights: NDArray[np.float32]


class Phraser:
    """Draws batches of strings; `which` (sayings,) is the row number of each meaning."""

    def __init__(self, sayings: Sequence[Saying], which: NDArray[np.int64]) -> None:
        self._sayings, self._which = sayings, which
        groups: defaultdict[tuple[str, str], defaultdict[str, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for number, saying in enumerate(sayings):
            own = saying.language if saying.language == ENGLISH else ""
            groups[saying.kind, own][saying.language].append(number)
        self._groups = {
            key: list(languages.values()) for key, languages in groups.items() if key in SHARES
        }
        self._classes = self._groups["class", ENGLISH][0]
        self._keys = list(self._groups)
        self._shares = [SHARES[key] for key in self._keys]

    def draw(self, size: int, rng: random.Random) -> Said:
        """Return `size` phrased strings."""
        keys = rng.choices(self._keys, self._shares, k=size)
        drawn = [self._say(rng.choice(rng.choice(self._groups[key])), rng) for key in keys]
        texts, first, second, share, weights = zip(*drawn, strict=True)
        return Said(
            list(texts),
            self._which[list(first)],
            self._which[list(second)],
            np.array(share, np.float32),
            np.array(weights, np.float32),
        )

    def _say(self, number: int, rng: random.Random) -> tuple[str, int, int, float, float]:
        saying = self._sayings[number]
        text = saying.text
        if saying.kind == "caption":
            text = thin(text, rng)
        elif saying.kind != "gloss":
            text = vary(text, saying.language, rng)
            named = saying.kind in ("class", "own") and saying.language == ENGLISH
            if named and rng.random() < _PAIR:
                other, share = rng.choice(self._classes), 0.3 + 0.4 * rng.random()
                text += rng.choice(_JOINTS) + self._sayings[other].text
                return text, number, other, share, 1.0
        return text, number, number, 1.0, saying.trust


def vary(text: str, language: str, rng: random.Random) -> str:
    """Return a name unchanged, in the plural, with a typo or in a template."""
    if language == ENGLISH and rng.random() < _PLURAL:
        text = pluralise(text)
    if len(text) > 4 and text.isascii() and rng.random() < _TYPO:
        text = mistype(text, rng)
    if language in TEMPLATES and rng.random() < _TEMPLATE:
        text = rng.choice(TEMPLATES[language]).format(text)
    return text


def thin(text: str, rng: random.Random) -> str:
    """Return a caption without a few of its words, so that none is known by heart."""
    words = text.split()
    return " ".join([w for w in words if rng.random() >= _THINNED] or words)


def pluralise(text: str) -> str:
    """Return an English noun's regular plural."""
    if text.endswith(("s", "x", "z", "ch", "sh")):
        return text + "es"
    if text.endswith("y") and text[-2:-1] not in "aeiou":
        return text[:-1] + "ies"
    return text + "s"


def mistype(text: str, rng: random.Random) -> str:
    """Return a text with a letter dropped, doubled or swapped with the next."""
    at = rng.randrange(1, len(text) - 1)
    head, letter, tail = text[:at], text[at], text[at + 1 :]
    return rng.choice((head + tail, head + 2 * letter + tail, head + tail[0] + letter + tail[1:]))
