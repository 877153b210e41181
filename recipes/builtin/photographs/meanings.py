"""The meanings of strings: mixtures over ImageNet's classes, from lists of words and captions.

Read from the folder `words` of the data (its MANIFEST names every source). A caption is the mixture
of its nouns, weighted by rarity. A noun that ImageNet does not name (a sky, a person) is mostly the
mixture of the nouns around it in the captions.
"""

from __future__ import annotations

import json
import lzma
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.builtin.photographs.space import Rows

CLASSES = 1000
ENGLISH = "en"
SURE = 0.75  # trust from which a list's word is taken as the class's own name
NAMES = {"jp": "ja", "cn": "zh", "it": "it"}  # files of names, and their languages
PEOPLE = (981, 982, 983)  # ballplayer, groom, scuba diver: the only ones that ImageNet names
_NAMED = 0.7  # trust from which a noun is something that ImageNet names
_WORDNET_SHARE = 0.15  # of the meaning of a noun that it does not name
_LIKELIEST = 3  # names of a class taught where none is sure
_SEEN_OFTEN = 8  # captions from which a noun's context counts
_STOP = (  # verbs, particles and places in a picture that WordNet also has as nouns
    *("are", "hi", "ha", "down", "over", "two", "top", "side", "front", "group", "background"),
    *("it", "in", "at", "an", "as", "on", "be", "was", "a", "i", "us"),
    *("he", "am", "or", "do", "so", "no", "may", "can", "will", "being", "have"),
    *("one"),
)
_ENDINGS = (("", ""), ("s", ""), ("es", ""), ("ies", "y"), ("men", "man"), ("ves", "f"))

Mixture = Mapping[int, float]


@dataclass(frozen=True)
class Saying:
    """A string, its language, the kind of list it is from, its meaning and its trust."""

    text: str
    language: str
    kind: str  # class, own, names, far, gloss, caption
    meaning: Mixture
    trust: float


@dataclass(frozen=True)
class Held:
    """Kinds of things that training must not name: their sets of classes, and English names."""

    sets: frozenset[frozenset[int]] = frozenset()
    words: frozenset[str] = frozenset()

    def covers(self, text: str, meaning: Mixture) -> bool:
        """Tell whether a string names one of them in some language."""
        named = len(meaning) > 3 and frozenset(meaning) in self.sets
        return named or text.lower() in self.words


def read_sayings(folder: Path, held: Held | None = None) -> list[Saying]:
    """Return every string to learn from the folder `words`, without names of what is held out."""
    held = held or Held()
    lines = [row for row in _read_lexicon(folder) if not held.covers(row["t"], row["q"])]
    english = {row["t"].lower(): row for row in lines if row["l"] == ENGLISH and _is_noun(row)}
    captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    reader = CaptionReader(english, [text for part in captions.values() for text in part], held)
    return [
        *(_say(row, reader) for row in lines if row["w"] >= SURE or _is_gloss(row)),
        *_read_names(folder),
        *_say_far(lines, reader),
        *reader.sayings(),
        *_say_likeliest(lines),
    ]


class CaptionReader:
    """Captions as mixtures of their nouns, and nouns by their context."""

    def __init__(
        self, english: Mapping[str, Any], captions: Sequence[str], held: Held | None = None
    ) -> None:
        self._english = english
        without = held.words if held else frozenset[str]()
        self._captions = captions
        self._nouns = [
            [n for n in self._find_nouns(text) if n not in _STOP and n not in without]
            for text in captions
        ]
        self.counts = Counter(noun for nouns in self._nouns for noun in set(nouns))
        self._total = sum(self.counts.values())
        self.meanings: dict[str, tuple[Rows, float]] = {
            noun: (to_row(english[noun]["q"]), english[noun]["w"]) for noun in self.counts
        }
        self.meanings |= self._hear_company()

    def sayings(self) -> Iterable[Saying]:
        """Return the captions whose nouns have meanings."""
        for text, nouns in zip(self._captions, self._nouns, strict=True):
            row, weight = self._mix(nouns)
            if weight > 0.02:
                meaning = {int(i): float(row[i]) for i in np.flatnonzero(row > 1e-4)}
                yield Saying(text.strip(), ENGLISH, "caption", meaning, min(1.0, 2 * weight))

    def _mix(self, nouns: Sequence[str]) -> tuple[Rows, float]:
        """Return the mixture of nouns, weighted by rarity and definiteness."""
        total, weights = np.zeros(CLASSES, np.float32), 0.0
        for noun in nouns:
            row, trust = self.meanings[noun]
            definite = max(1, int((row > 1e-4).sum())) ** -0.3 + 0.1
            weight = trust * math.log(self._total / self.counts[noun]) / 10 * definite
            total += weight * row
            weights += weight
        return total / max(weights, 1e-9), weights

    def _hear_company(self) -> dict[str, tuple[Rows, float]]:
        """Return better meanings for frequent nouns that ImageNet does not name."""
        sums: defaultdict[str, Rows] = defaultdict(lambda: np.zeros(CLASSES, np.float32))
        everything = np.zeros(CLASSES, np.float32)
        vague = {noun for noun in self.counts if self._is_vague(noun)}
        for nouns in self._nouns:
            company = self._mix([n for n in nouns if n not in vague])[0]
            everything += company
            for noun in vague.intersection(nouns):
                sums[noun] += company
        base = everything / max(float(everything.sum()), 1e-9) + 1e-5
        heard = {}
        for noun, row in sums.items():
            if self.counts[noun] >= _SEEN_OFTEN and row.sum() > 1e-6:
                share = row / row.sum()
                lifted = share * np.maximum(0, np.log(share / base + 1e-9))
                company = lifted / max(float(lifted.sum()), 1e-9)
                known, trust = self.meanings[noun]
                mixed = _WORDNET_SHARE * known + (1 - _WORDNET_SHARE) * company
                heard[noun] = (mixed.astype(np.float32), max(trust, 0.5))
        return heard

    def _is_vague(self, noun: str) -> bool:
        row, trust = self.meanings[noun]
        return trust < _NAMED or float(row[list(PEOPLE)].sum()) > 0.3

    def _find_nouns(self, text: str) -> list[str]:
        words, found = re.findall(r"[a-z]+", text.lower()), []
        at = 0
        while at < len(words):
            for length in (3, 2, 1):
                said = words[at : at + length]
                noun = self._find_noun(" ".join(said)) if len(said) == length else None
                if noun is not None:
                    found.append(noun)
                    at += length
                    break
            else:
                at += 1
        return found

    def _find_noun(self, text: str) -> str | None:
        """Return the noun behind a form, if the list has it."""
        if len(text) < 3:
            return None
        for ending, instead in _ENDINGS:
            if text.endswith(ending):
                noun = text[: len(text) - len(ending)] + instead
                if noun in self._english:
                    return noun
        return None


def to_row(meaning: Mixture) -> Rows:
    """Return a mixture as a row over all classes, summing to one."""
    row = np.zeros(CLASSES, np.float32)
    row[list(meaning)] = list(meaning.values())
    shares: Rows = row / row.sum()
    return shares


def _say(row: Mapping[str, Any], reader: CaptionReader) -> Saying:
    kind = "gloss" if _is_gloss(row) else "class" if row["src"] == "class" else "own"
    meaning = row["q"]
    if kind == "own" and row["l"] == ENGLISH and row["t"].lower() in reader.meanings:
        meaning = _to_mixture(reader.meanings[row["t"].lower()][0])
    return Saying(row["t"], row["l"], kind, meaning, row["w"])


def _say_far(lines: Sequence[Mapping[str, Any]], reader: CaptionReader) -> Iterable[Saying]:
    """Return the strings that WordNet only places near classes, if captions use them."""
    spoken: dict[frozenset[int], str] = {}
    for row in lines:
        if row["l"] == ENGLISH and row["t"].lower() in reader.counts:
            spoken.setdefault(frozenset(row["q"]), row["t"].lower())
    for row in lines:
        if row["w"] >= SURE or _is_gloss(row):
            continue
        noun = spoken.get(frozenset(row["q"]))
        if noun is None or (row["l"] == ENGLISH and row["t"].lower() not in reader.counts):
            continue
        said = row["t"].lower() if row["l"] == ENGLISH else noun
        mixed, trust = reader.meanings[said]
        yield Saying(row["t"], row["l"], "far", _to_mixture(mixed), max(row["w"], trust * 0.8))


def _say_likeliest(lines: Sequence[Mapping[str, Any]]) -> Iterable[Saying]:
    """Return for each class without a sure name in a language the likeliest that lists have."""
    found: defaultdict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in lines:
        number, share = max(row["q"].items(), key=lambda item: item[1])
        if share > 0.5 and row["l"] != ENGLISH and not _is_gloss(row):
            found[row["l"], number].append(row)
    for rows in found.values():
        best = max(row["w"] for row in rows)
        if best < SURE:
            for row in [row for row in rows if row["w"] == best][:_LIKELIEST]:
                yield Saying(row["t"], row["l"], "own", row["q"], best)


def _read_names(folder: Path) -> Iterable[Saying]:
    """Return the names of all thousand classes in other lists, with their articles."""
    for name, language in {**NAMES, "en": ENGLISH}.items():
        file = folder / "imagenet_names" / f"{name}.json"
        for number, text in enumerate(json.loads(file.read_text("utf-8"))["imagenet1k"]):
            kind = "class" if language == ENGLISH else "names"
            yield Saying(text, language, kind, {number: 1.0}, 1.0)


def _read_lexicon(folder: Path) -> list[dict[str, Any]]:
    with lzma.open(folder / "lexicon.jsonl.xz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        row["q"] = {int(number): weight for number, weight in row["q"].items()}
    return rows


def _to_mixture(row: Rows) -> dict[int, float]:
    return {int(i): float(row[i]) for i in np.flatnonzero(row > 1e-4)}


def _is_gloss(row: Mapping[str, Any]) -> bool:
    return bool(row["src"] == "gloss")


def _is_noun(row: Mapping[str, Any]) -> bool:
    return row["src"] in ("class", "wordnet")
