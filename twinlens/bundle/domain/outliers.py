"""Pictures outside a domain, made from its own: cut up, mixed, overlaid.

They stand for foreign pictures when a sign is learned, so that no foreign picture is needed. What
must stay true: the same pictures and seed give the same outliers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from twinlens.bundle.arrays import Pixels

_CUT_OUT = 20  # grey levels by which a pixel differs from its picture's background
_BICUBIC = Image.Resampling.BICUBIC


def make_outliers(groups: Sequence[Pixels], count: int, seed: int = 0) -> Pixels:
    """Return `count` outliers (count, height, width, 3) made from the groups' pictures."""
    mixer = _Mixer(groups, np.random.default_rng(seed))
    makers: tuple[Callable[[], Image.Image], ...] = (mixer.collage, mixer.cut_out, mixer.tiles)
    return np.stack([np.asarray(makers[i % len(makers)]()) for i in range(count)])


class _Mixer:
    """Draws pictures at random, each group equally often, and mixes them."""

    def __init__(self, groups: Sequence[Pixels], rng: np.random.Generator) -> None:
        self._groups = [group for group in groups if len(group)]
        self._rng = rng
        self._height, self._width = self._groups[0].shape[1:3]

    def collage(self) -> Image.Image:
        """Return rotated pieces of two to six pictures on a background."""
        picture = self._background()
        for _ in range(self._rng.integers(2, 7)):
            piece = self._piece(0.3, 0.9).rotate(self._rng.uniform(-90, 90), expand=True)
            scale = self._rng.uniform(0.2, 0.7)
            size = (self._size(scale), self._size(scale * self._rng.uniform(0.6, 1.5)))
            mask = Image.new("L", size, 0)
            draw = ImageDraw.Draw(mask)
            shape = draw.ellipse if self._rng.random() < 0.6 else draw.rectangle
            shape((1, 1, size[0] - 2, size[1] - 2), fill=255)
            self._paste(picture, piece.resize(size, _BICUBIC), mask)
        return self._recolour(picture)

    def cut_out(self) -> Image.Image:
        """Return the foreground of one picture on another background."""
        picture, shown = self._background(), self._picture()
        scale = self._rng.uniform(0.35, 0.95)
        shown = shown.resize((self._size(scale), self._size(scale)), _BICUBIC)
        values = np.asarray(shown).astype(np.int16)
        differs = np.abs(values - values[0, 0]).max(-1) > _CUT_OUT
        mask = Image.fromarray((255 * differs).astype(np.uint8))
        self._paste(picture, shown, mask.filter(ImageFilter.GaussianBlur(0.7)))
        return self._recolour(picture)

    def tiles(self) -> Image.Image:
        """Return a grid of two by two or three by three pieces."""
        number = int(self._rng.integers(2, 4))
        width, height = -(-self._width // number), -(-self._height // number)
        picture = Image.new("RGB", (self._width, self._height))
        for i in range(number * number):
            piece = self._piece(0.3, 0.8).resize((width, height), _BICUBIC)
            picture.paste(piece, (i % number * width, i // number * height))
        return picture

    def _picture(self) -> Image.Image:
        group = self._groups[self._rng.integers(len(self._groups))]
        return Image.fromarray(group[self._rng.integers(len(group))])

    def _piece(self, least: float, most: float) -> Image.Image:
        """Return a rectangle cut from a picture, its sides given as shares of the picture's."""
        picture = self._picture()
        width, height = (
            max(2, int(side * self._rng.uniform(least, most))) for side in picture.size
        )
        left = int(self._rng.integers(0, picture.width - width + 1))
        top = int(self._rng.integers(0, picture.height - height + 1))
        return picture.crop((left, top, left + width, top + height))

    def _background(self) -> Image.Image:
        if self._rng.random() < 0.5:
            return Image.fromarray(self._field())
        return self._piece(0.15, 0.5).resize((self._width, self._height), _BICUBIC)

    def _field(self) -> Pixels:
        """Return coloured noise with the spectrum of natural images."""
        rows, columns = np.fft.fftfreq(self._height), np.fft.fftfreq(self._width)
        power = rows[:, None] ** 2 + columns[None] ** 2
        power[0, 0] = 1
        fall = power ** (-self._rng.uniform(0.8, 1.6) / 2)
        fall[0, 0] = 0
        waves = np.exp(2j * np.pi * self._rng.random((3, self._height, self._width)))
        field: NDArray[np.float64] = np.fft.ifft2(fall * waves).real.transpose(1, 2, 0)
        mixed = field / (field.std() + 1e-9) @ (0.4 * self._rng.normal(size=(3, 3)) + 0.6)
        middle, spread = 127 + self._rng.uniform(-60, 60, 3), self._rng.uniform(25, 60)
        levels: Pixels = (middle + spread * mixed).clip(0, 255).astype(np.uint8)
        return levels

    def _paste(self, picture: Image.Image, piece: Image.Image, mask: Image.Image) -> None:
        """Paste `piece` at a random position with its middle inside the picture."""
        left = int(self._rng.integers(0, self._width)) - piece.width // 2
        top = int(self._rng.integers(0, self._height)) - piece.height // 2
        picture.paste(piece, (left, top), mask)

    def _recolour(self, picture: Image.Image) -> Image.Image:
        return ImageEnhance.Color(picture).enhance(self._rng.uniform(0.3, 1.3))

    def _size(self, share: float) -> int:
        return max(4, int(min(self._width, self._height) * share))
