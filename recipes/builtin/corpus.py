"""The images and words that the builtin encoder learns from, read into memory as plain arrays.

Three sets: emoji artwork, icons, photographs of clothes. What must stay true: share-alike artwork
never enters (`SHARE_ALIKE`), since these weights ship under a permissive licence.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinlens.demo.drawings import draw_all
from twinlens.errors import InputError

SHARE_ALIKE = ("openmoji_color", "openmoji_black")
DRAWN = "drawn"  # the style of shapes drawn by code, among the icons
COLOURED_ICONS = ("flat-color-icons", "fluent-color", "meteocons", DRAWN)
STORED_SIZE = 64  # side at which the sets are stored; views are cut from this
EMOJI, ICONS, CLOTHES = "emoji64", "icons64", "clothing96"
ROUND_FLAGS = "emojitwo"  # the designer who draws every country's flag as a disc

# Subjects that designers draw facing either way; a word of `_HANDED` in the label excludes them.
_EITHER_WAY = (
    *("animal", "plant", "food", "drink", "dishware", "sport", "event", "arts-crafts", "clothing"),
    *("household", "light-video", "lock", "medical", "musical-instrument", "tool", "writing"),
    *("science", "phone", "sound", "place-building", "place-geographic", "place-religious"),
    *("place-other", "transport-air", "transport-ground", "transport-water", "sky-weather"),
    *("person", "face", "cat-face", "monkey-face", "body-parts", "hand"),
)
_HANDED = ("left", "right", "moon", "arrow", "clockwise")


@dataclass(frozen=True)
class Part:
    """One set: pixels (n, side, side, 3) uint8, a row of facts per image, and facts per concept."""

    pixels: NDArray[np.uint8]
    rows: list[dict[str, Any]]
    concepts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, wanted: Callable[[dict[str, Any]], bool]) -> Part:
        """Return the images whose row is wanted."""
        chosen = [i for i, row in enumerate(self.rows) if wanted(row)]
        return Part(self.pixels[chosen], [self.rows[i] for i in chosen], self.concepts)

    def concept(self, index: int) -> dict[str, Any]:
        """Return the facts about the concept that image `index` shows (emoji only)."""
        return self.concepts[self.rows[index]["hexcode"]]


@dataclass(frozen=True)
class Corpus:
    """The three sets of one split."""

    emoji: Part
    icons: Part
    clothes: Part


def find_data() -> Path:
    """Return the folder that `TWINLENS_DATA` names, or say how to get it."""
    named = os.environ.get("TWINLENS_DATA")
    if not named:
        raise InputError(
            "TWINLENS_DATA is not set; docs/builtin.md says where each set comes from and how to "
            "lay it out",
            field="TWINLENS_DATA",
        )
    return Path(named)


def read_corpus(
    folder: Path, split: str, *, side: int = STORED_SIZE, without_styles: Sequence[str] = ()
) -> Corpus:
    """Return the `train` or `test` split, less the share-alike styles and `without_styles`."""
    unwanted = {*SHARE_ALIKE, *without_styles}

    def read(name: str, wanted: Callable[[dict[str, Any]], bool] = lambda row: True) -> Part:
        return read_part(folder / name / f"{split}.zip", side, wanted)

    styles = {row["style"] for row in read_rows(folder / EMOJI / f"{split}.zip")}
    for style in without_styles:
        if style not in styles:
            raise InputError(
                f"held_out={style}: no such style; the data has {', '.join(sorted(styles))}",
                field="held_out",
            )
    icons = read(ICONS)
    return Corpus(
        emoji=read(EMOJI, lambda row: row["style"] not in unwanted),
        icons=_join(icons, draw_shapes(side)) if split == "train" else icons,
        clothes=read(CLOTHES, lambda row: row["cls"] is not None),
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return an archive's facts about its images."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; docs/builtin.md says how to lay out the data",
            field="TWINLENS_DATA",
        )
    with zipfile.ZipFile(path) as archive:
        return _read_lines(archive, "index.jsonl")


def read_part(path: Path, side: int, wanted: Callable[[dict[str, Any]], bool]) -> Part:
    """Return the wanted images of one archive as squares of the given side."""
    rows = [row for row in read_rows(path) if wanted(row)]
    with zipfile.ZipFile(path) as archive:
        pixels = np.zeros((len(rows), side, side, 3), np.uint8)
        for i, row in enumerate(rows):
            pixels[i] = _read_square(archive.read(row["file"]), side)
        concepts = {}
        if "meta.jsonl" in archive.namelist():
            concepts = {c["hexcode"]: c for c in _read_lines(archive, "meta.jsonl")}
    return Part(pixels, rows, concepts)


def draw_shapes(side: int, copies: int = 6) -> Part:
    """Return the shapes, letters, animals and things that the demo draws, slightly tinted.

    They are few, but their colours and shapes are certain: they teach what red and a star are.
    """
    rng = np.random.default_rng(0)
    pictures = list(draw_all(side)) * copies
    pixels = np.stack([np.asarray(picture.image) for picture in pictures])
    tint = rng.integers(-18, 19, (len(pictures), 1, 1, 3))
    inked = pixels < 250
    tinted = np.where(inked, pixels + tint, pixels).clip(0, 255).astype(np.uint8)
    rows = [{"caption": p.name, "style": DRAWN, "categories": []} for p in pictures]
    return Part(tinted, rows)


def _join(one: Part, two: Part) -> Part:
    return Part(np.concatenate([one.pixels, two.pixels]), one.rows + two.rows, one.concepts)


def subgroup(concept: dict[str, Any]) -> str:
    """Return the concept's subgroup in words: `animal mammal`."""
    return str(concept["subgroup"]).replace("-", " ")


def is_monochrome(row: dict[str, Any]) -> bool:
    """Tell whether an emoji or icon has one colour, so that its negative means the same."""
    if "mono" in row:
        return bool(row["mono"])
    return "caption" in row and row["style"] not in COLOURED_ICONS


def may_be_mirrored(concept: dict[str, Any]) -> bool:
    """Tell whether an emoji's mirror image means the same: a fish's does, an arrow's does not."""
    if any(word in concept["label"].lower() for word in _HANDED):
        return False
    kind = concept["subgroup"]
    return any(kind == name or kind.startswith(f"{name}-") for name in _EITHER_WAY)


def is_round_flag(row: dict[str, Any], concept: dict[str, Any]) -> bool:
    """Tell whether a country's flag is drawn as a disc."""
    drawn, shown = str(row["style"]), concept["subgroup"]
    return drawn.startswith(ROUND_FLAGS) and bool(shown == "country-flag")


def _read_lines(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(name).decode().splitlines()]


def _read_square(encoded: bytes, side: int) -> NDArray[np.uint8]:
    """Return the centre square of an image at the given side."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    if image.size != (side, side):
        edge = min(image.size)
        left, top = (image.width - edge) / 2, (image.height - edge) / 2
        box = (left, top, left + edge, top + edge)
        image = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)
