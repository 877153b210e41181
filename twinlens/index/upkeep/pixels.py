"""Compares two images by their pixels: the same, or the same but for size, compression, a crop.

Each image is cut at the offsets that a crop of up to a tenth can have, and shrunk; if one cut of
one image correlates with the whole of the other and is as bright, they are copies. An embedding
says that two drawings show the same; this tells whether they are the same drawing.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict

import numpy as np
import numpy.typing as npt
from PIL import Image

from twinlens.bundle.image.image_source import ImageLimits, decoding, open_image
from twinlens.bundle.image.orientation import read_orientation, turn_upright
from twinlens.errors import InputError
from twinlens.index.ingest.corpus import read_path
from twinlens.index.ingest.item_files import PATH_FIELD, find_file
from twinlens.index.storage.records import Item
from twinlens.index.vectors.arrays import Floats

SIDE = 24  # of a shrunk cut
HELD_SIDE = 192  # of the image that cuts are made from
CORRELATION = 0.98
DIFFERENCE = 8.0  # mean of the absolute difference of 0..255
CACHED = 1000  # images, 0.3 MB each
_OFFSETS = (0.0, 0.25, 0.5, 0.75, 1.0)
CUTS = (
    (0.0, 0.0, 0.0),
    *((size, x, y) for size in (0.02, 0.04, 0.06, 0.08, 0.1) for x in _OFFSETS for y in _OFFSETS),
)


class DecodedImage:
    """One decoded image: its hash, its area, and its cuts."""

    def __init__(self, raw: bytes) -> None:
        with decoding():
            opened = open_image(raw, ImageLimits())
            orientation = read_orientation(opened)
            image = turn_upright(opened.convert("RGB"), orientation)
        self.area = image.width * image.height
        head = f"{image.width}x{image.height}:".encode()
        self.sha256 = hashlib.sha256(head + image.tobytes()).hexdigest()
        image.thumbnail((HELD_SIDE, HELD_SIDE))
        self._image = image

    @functools.cached_property
    def whole(self) -> Floats:
        """The image without a cut, shrunk to `SIDE`, flat."""
        return self._cut(CUTS[0]).astype(np.float32)

    @functools.cached_property
    def cuts(self) -> npt.NDArray[np.uint8]:
        """Every cut (n, values), shrunk."""
        return np.stack([self._cut(cut) for cut in CUTS])

    @functools.cached_property
    def contrasts(self) -> Floats:
        """The length of each cut (n,) without its mean; 0 for a cut of one colour."""
        centred = self.cuts - self.cuts.mean(axis=1, keepdims=True)
        return np.asarray(np.linalg.norm(centred, axis=1), np.float32)

    def correlate(self, other: DecodedImage) -> tuple[float, float]:
        """Return the correlation of the best cut with the whole of `other`, and the difference."""
        pattern = other.whole - other.whole.mean()
        contrast = max(1.0, float(np.linalg.norm(pattern)))
        found = self.cuts.astype(np.float32) @ (pattern / contrast)
        found /= np.maximum(self.contrasts, 1.0)
        if not pattern.any():  # of one colour: alike if a cut is too
            found = (self.contrasts < 1.0).astype(np.float32)
        best = int(np.argmax(found))
        apart = float(np.abs(self.cuts[best] - other.whole).mean())
        return float(found[best]), apart

    def _cut(self, cut: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
        share, x, y = cut
        width, height = self._image.size
        left, top = width * share * x, height * share * y
        box = (left, top, left + width * (1 - share), top + height * (1 - share))
        small = self._image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
        return np.asarray(small).ravel()


def resemble(first: DecodedImage, second: DecodedImage) -> bool:
    """Return whether one image is a copy of the other, or of a part of it."""
    if first.sha256 == second.sha256:
        return True
    for one, other in ((first, second), (second, first)):
        correlation, apart = one.correlate(other)
        if correlation >= CORRELATION and apart <= DIFFERENCE:
            return True
    return False


class ImageReader:
    """Reads the images of items, and holds the last ones.

    `trusts_paths`: whether to open any path that an item names, not only those that the indexer
    wrote; not for a server, whose clients write metadata.
    """

    def __init__(self, *, trusts_paths: bool = True) -> None:
        self._trusts_paths = trusts_paths
        self._held: OrderedDict[str, DecodedImage | None] = OrderedDict()

    def read(self, item: Item) -> DecodedImage | None:
        """Return the image at an item's `path`, or None where it cannot be read."""
        path = item.metadata.get(PATH_FIELD) if self._trusts_paths else find_file(item)
        if not isinstance(path, str):
            return None
        if path not in self._held:
            self._held[path] = _open(path)
            if len(self._held) > CACHED:
                self._held.popitem(last=False)
        self._held.move_to_end(path)
        return self._held[path]


def _open(path: str) -> DecodedImage | None:
    try:
        return DecodedImage(read_path(path))
    except (OSError, InputError):
        return None
