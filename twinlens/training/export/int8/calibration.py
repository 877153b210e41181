"""The pictures that calibrate int8 convolutions: a user's, or textures drawn by fixed rules.

Two thirds set the ranges, the others measure the result. What must stay true: no picture does both.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinlens.errors import InputError
from twinlens.training.data.sources import open_source

_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_LEAST, _MOST, _DRAWN = 12, 96, 48
_SIDE: Final = 256


@dataclass(frozen=True)
class CalibrationPictures:
    """Encoded pictures: those that set the ranges, and those that measure the result."""

    fit: tuple[bytes, ...]
    judge: tuple[bytes, ...]
    source: str

    def describe(self) -> dict[str, Any]:
        """Return which pictures these are, for the provenance of a bundle."""
        digest = hashlib.sha256()
        for picture in self.fit:
            digest.update(hashlib.sha256(picture).digest())
        return {
            "pictures": self.source,
            "count": len(self.fit),
            "sha256": digest.hexdigest(),
            "judged_on": len(self.judge),
        }


def read_pictures(where: Path) -> CalibrationPictures:
    """Return up to 96 pictures of a data set, evenly spread over their names."""
    if where.is_dir():
        return read_folder(where)
    source = open_source(where)
    count = len(source.records)
    _check_count(where, count)
    chosen = dict.fromkeys(i * count // _MOST for i in range(_MOST))
    return _split([source.read(place) for place in chosen], f"data {where.name}")


def read_folder(folder: Path) -> CalibrationPictures:
    """Return up to 96 pictures of `folder` and its subfolders, evenly spread over their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    _check_count(folder, len(paths))
    chosen = [paths[i * len(paths) // _MOST] for i in range(_MOST)]
    return _split([path.read_bytes() for path in dict.fromkeys(chosen)], f"folder {folder.name}")


def _check_count(where: Path, count: int) -> None:
    if count < _LEAST:
        raise InputError(
            f"--calibrate {where} holds {count} pictures ({', '.join(_SUFFIXES)}); "
            f"at least {_LEAST} are needed, like those that the model will see",
            field="calibrate",
        )


def draw_textures() -> CalibrationPictures:
    """Return drawn textures: random fields with the 1/f spectrum of photographs."""
    rng = np.random.default_rng(0)
    return _split([_encode(_draw_texture(rng)) for _ in range(_DRAWN)], "drawn textures")


def _split(pictures: Sequence[bytes], source: str) -> CalibrationPictures:
    fit = tuple(picture for i, picture in enumerate(pictures) if i % 3 < 2)
    return CalibrationPictures(fit, tuple(pictures[2::3]), source)


def _draw_texture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one texture: three mixed fields of 1/f noise, with random contrast and brightness."""
    rows, columns = np.fft.fftfreq(_SIDE)[:, None], np.fft.fftfreq(_SIDE)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    waves = np.fft.fft2(rng.normal(size=(3, _SIDE, _SIDE))) / frequency ** rng.uniform(0.5, 1.8)
    fields = np.real(np.fft.ifft2(waves))
    fields -= fields.mean((1, 2), keepdims=True)
    fields /= fields.std((1, 2), keepdims=True)
    # Colour channels of photographs share most of their structure; of textures, some or all of it.
    mixing = rng.normal(0, 0.5, (3, 3)) + rng.uniform(0, 1.5)
    mixed = np.tensordot(mixing, fields, 1)
    pixels = mixed / mixed.std() * rng.uniform(25, 80) + rng.uniform(70, 185)
    texture: NDArray[np.uint8] = np.clip(pixels.transpose(1, 2, 0), 0, 255).astype(np.uint8)
    return texture


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
