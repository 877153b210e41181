"""Which images form a batch: emoji in several designs, many of one subgroup; icons; clothes.

Concepts of one subgroup in one batch are the hard negatives: a fox is told from a wolf only if both
are present.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from recipes.builtin.corpus import Corpus, subgroup

Item = TypeVar("Item")


@dataclass(frozen=True)
class Mix:
    """How many of each a batch holds."""

    concepts: int = 112  # emoji concepts
    styles: int = 3  # designs of each
    icons: int = 160
    clothes: int = 80
    crowds: int = 3  # subgroups from which many concepts come
    crowd: int = 16  # concepts from each of those
    blends: int = 96  # of two images each, made from the batch; not counted as views
    words: int = 0  # common words beside those of the images


class Sampler:
    """Draws batches of image indices, which run over emoji, icons, then clothes."""

    def __init__(self, corpus: Corpus, mix: Mix, rng: random.Random) -> None:
        self._mix, self._rng = mix, rng
        self._styles: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index, row in enumerate(corpus.emoji.rows):
            self._styles[row["hexcode"]][design(row["style"])].append(index)
        self._crowds: dict[str, list[str]] = defaultdict(list)
        for hexcode in self._styles:
            self._crowds[subgroup(corpus.emoji.concepts[hexcode])].append(hexcode)
        icons = len(corpus.emoji)
        clothes = icons + len(corpus.icons)
        self._concepts = _cycle(list(self._styles), rng)
        self._icons = _cycle(list(range(icons, clothes)), rng)
        self._clothes = _cycle(list(range(clothes, clothes + len(corpus.clothes))), rng)

    def batch(self) -> list[int]:
        """Return the indices of one batch."""
        chosen: list[int] = []
        for hexcode in self._draw_concepts():
            designs = list(self._styles[hexcode].values())
            drawn = self._rng.sample(designs, min(self._mix.styles, len(designs)))
            chosen += [self._rng.choice(drawings) for drawings in drawn]
        chosen += [next(self._icons) for _ in range(self._mix.icons)]
        return chosen + [next(self._clothes) for _ in range(self._mix.clothes)]

    def _draw_concepts(self) -> list[str]:
        sizes = [len(crowd) for crowd in self._crowds.values()]
        names = self._rng.choices(list(self._crowds), sizes, k=self._mix.crowds)
        wanted = min(self._mix.concepts, len(self._styles))
        chosen: dict[str, None] = {}  # in order, without repeats
        for name in names:
            crowd = self._crowds[name]
            chosen.update(dict.fromkeys(self._rng.sample(crowd, min(len(crowd), self._mix.crowd))))
        chosen = dict.fromkeys(list(chosen)[: wanted // 3 or wanted])
        while len(chosen) < wanted:
            chosen[next(self._concepts)] = None
        return list(chosen)


def design(style: str) -> str:
    """Return the designer of a style: `fluent_flat` and `fluent_3d` hardly differ in shape."""
    return style.split("_", maxsplit=1)[0]


def _cycle(items: list[Item], rng: random.Random) -> Iterator[Item]:
    """Yield the items for ever, reshuffled each round."""
    while True:
        yield from rng.sample(items, len(items))
