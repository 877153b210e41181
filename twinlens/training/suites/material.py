"""The user's pictures for the suites: bytes, captions and labels of those that decode.

What must stay true: which pictures are drawn depends only on the data and the seed; a picture that
a suite modifies is decoded the same way for every encoder, so that all see the same pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from twinlens.bundle.image.image_source import ImageLimits, ImageSource, decoding, open_image
from twinlens.bundle.image.orientation import read_orientation, turn_upright
from twinlens.bundle.image.resampling import to_eight_bits
from twinlens.errors import ImageError, InputError
from twinlens.training.data.records import DataSource, Record
from twinlens.training.data.sources import open_source
from twinlens.training.suites.extras import ListedPair, read_listed_pairs, read_translations

SIDE = 224  # of the short side; larger pictures are shrunk before they are modified


@dataclass(frozen=True)
class Exhibit:
    """One picture of the data, encoded, with what is known about it."""

    key: str
    picture: bytes
    label: str | None
    captions: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    listed: tuple[ListedPair, ...] = ()  # published caption pairs

    @property
    def names(self) -> tuple[str, ...]:
        """Its captions, or its label where it has none."""
        return self.captions or ((self.label,) if self.label else ())


@dataclass(frozen=True)
class Material:
    """The pictures that a suite may ask about."""

    name: str
    exhibits: tuple[Exhibit, ...] = ()
    unreadable: int = 0
    # Language -> English name -> name, for the names of the pictures.
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def pairs(self) -> dict[str, tuple[Exhibit, Exhibit]]:
        """Folders of exactly two captioned pictures; empty if a folder has more."""
        folders: dict[str, list[Exhibit]] = defaultdict(list)
        for exhibit in self.exhibits:
            if exhibit.captions:
                folders[exhibit.key.rpartition("/")[0]].append(exhibit)
        if any(len(own) > 2 for own in folders.values()):
            return {}
        return {
            name: (own[0], own[1])
            for name, own in folders.items()
            if len(own) == 2 and own[0].captions[0] != own[1].captions[0]
        }

    @property
    def has(self) -> frozenset[str]:
        """What the data hold: pictures, captions, labels, pairs, names in other languages."""
        found = {"pictures"} if self.exhibits else set()
        if self.pairs:
            found.add("pairs")
        if self.translations and any(exhibit.names for exhibit in self.exhibits):
            found.add("names")
        if any(exhibit.captions for exhibit in self.exhibits):
            found.add("captions")
        if len({exhibit.label for exhibit in self.exhibits if exhibit.label}) > 1:
            found.add("labels")
        return frozenset(found)


def read_material(where: str, limit: int, *, seed: int = 0, names: Path | None = None) -> Material:
    """Return at most `limit` pictures of `where`, drawn at random; 0 returns all.

    `names` is a JSON file of their names in other languages.
    """
    translations = {} if names is None else read_translations(names)
    listed = read_listed_pairs(where)
    source = open_source(where)
    order = np.random.default_rng(seed).permutation(len(source.records))
    chosen = sorted(int(place) for place in order[: limit or None])
    read = [exhibit for place in chosen if (exhibit := _read(source, place)) is not None]
    found = [replace(exhibit, listed=listed.get(exhibit.key, ())) for exhibit in read]
    if not found:
        raise InputError(f"none of the images of {where} can be decoded", field="DATA")
    return Material(Path(where).name, tuple(found), len(chosen) - len(found), translations)


def _read(source: DataSource, place: int) -> Exhibit | None:
    """Return a picture of the source; None if it cannot be decoded."""
    record: Record = source.records[place]
    try:
        data = source.read(place)
        open_image(data, ImageLimits()).load()
    except (ImageError, OSError, KeyError):
        return None
    return Exhibit(record.key, data, record.label, record.captions, record.negatives)


def decode_picture(source: ImageSource, side: int = SIDE) -> Image.Image:
    """Return the picture upright in RGB, its short side at most `side`."""
    image = open_image(source, ImageLimits())
    with decoding():
        image.load()
    upright = turn_upright(to_eight_bits(image), read_orientation(image))
    if "A" in upright.getbands() or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(white, layer)
    return shrink_picture(upright.convert("RGB"), side)


def shrink_picture(image: Image.Image, side: int) -> Image.Image:
    """Return the image with a short side of at most `side`."""
    short = min(image.size)
    if short <= side:
        return image
    size = tuple(max(1, round(length * side / short)) for length in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
