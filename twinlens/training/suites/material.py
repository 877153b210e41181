"""The user's pictures as the suites take them: bytes, captions and labels, those that decode.

What must stay true: which pictures are drawn depends on the data and the seed alone; a picture that
a suite changes is decoded alike for every encoder, so that all see the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from twinlens.bundle.image.image_source import ImageLimits, ImageSource, decoding, open_image
from twinlens.bundle.image.orientation import read_orientation, turn_upright
from twinlens.bundle.image.resampling import to_eight_bits
from twinlens.errors import ImageError, InputError
from twinlens.training.data.records import DataSource, Record
from twinlens.training.data.sources import open_source

SIDE = 224  # of the short side; larger pictures are reduced before they are changed


@dataclass(frozen=True)
class Exhibit:
    """One picture of the data, encoded, with what is known of it."""

    key: str
    picture: bytes
    label: str | None
    captions: tuple[str, ...]
    negatives: tuple[str, ...] = ()

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

    @property
    def has(self) -> frozenset[str]:
        """What the data hold: pictures, and captions or labels if any picture has them."""
        found = {"pictures"} if self.exhibits else set()
        if any(exhibit.captions for exhibit in self.exhibits):
            found.add("captions")
        if len({exhibit.label for exhibit in self.exhibits if exhibit.label}) > 1:
            found.add("labels")
        return frozenset(found)


def read_material(where: str, limit: int, *, seed: int = 0) -> Material:
    """Return at most `limit` pictures of `where`, drawn at random; 0 returns all."""
    source = open_source(where)
    order = np.random.default_rng(seed).permutation(len(source.records))
    chosen = sorted(int(place) for place in order[: limit or None])
    found = [exhibit for place in chosen if (exhibit := _read(source, place)) is not None]
    if not found:
        raise InputError(f"none of the images of {where} can be decoded", field="DATA")
    return Material(Path(where).name, tuple(found), len(chosen) - len(found))


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
