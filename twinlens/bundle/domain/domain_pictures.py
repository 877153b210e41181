"""The pictures of a domain, read from a folder: each subfolder is a group.

What must stay true: a file that cannot be decoded is left out and counted, not fatal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.domain.domain_sign import DomainSign
from twinlens.bundle.domain.learning import learn_sign, split_pictures
from twinlens.errors import ImageError, InputError

MOST_PICTURES = 8000  # per group


class DomainEncoder(Protocol):
    """The image stages of an encoder that learning a domain needs."""

    def preprocess(self, image: Path, /) -> NDArray[np.uint8]:
        """Return pixels (height, width, 3)."""

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit rows of pixels (n, height, width, 3)."""


def learn_folder(encoder: DomainEncoder, folder: Path) -> DomainSign:
    """Return the domain sign learned from the pictures in `folder`."""
    groups = read_groups(encoder, folder)
    parts = {name: split_pictures(pixels) for name, pixels in groups.items()}
    references, limiting, measuring = (
        {name: three[i] for name, three in parts.items()} for i in range(3)
    )
    return learn_sign(encoder, references, limiting, measuring)


def read_groups(encoder: DomainEncoder, folder: Path) -> dict[str, Pixels]:
    """Return the decoded pictures by subfolder; pictures outside subfolders are one group."""
    if not folder.is_dir():
        raise InputError(f"--domain {str(folder)!r} is not a folder of pictures", field="domain")
    names: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            names.setdefault(inside.parts[0] if len(inside.parts) > 1 else folder.name, []).append(
                path
            )
    groups = {name: _decode(encoder, paths) for name, paths in names.items()}
    found = {name: pixels for name, pixels in groups.items() if len(pixels)}
    if not found:
        raise InputError(f"--domain {folder} holds no picture that can be read", field="domain")
    return found


def _decode(encoder: DomainEncoder, paths: list[Path]) -> Pixels:
    step = -(-len(paths) // MOST_PICTURES)
    pixels = []
    for path in paths[::step]:
        try:
            pixels.append(encoder.preprocess(path))
        except ImageError:
            continue
    return np.stack(pixels) if pixels else np.zeros((0, 1, 1, 3), np.uint8)
