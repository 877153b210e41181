"""Photographs of the demo, which ship with the package: free to use, each with its credit.

`photos/photos.json` says of each its name, author, licence and source; NOTICE says the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from twinlens.demo.picture import Picture

FOLDER = Path(__file__).with_name("photos")
KIND = "photograph"


@dataclass(frozen=True)
class Photograph:
    """One photograph: its file in `FOLDER`, what it shows, and whose it is."""

    file: str
    name: str
    credit: str
    licence: str
    source: str


def list_photographs() -> list[Photograph]:
    """Return what is known of every photograph."""
    rows = json.loads((FOLDER / "photos.json").read_text(encoding="utf-8"))
    return [Photograph(**row) for row in rows]


def open_photographs() -> Iterator[Picture]:
    """Yield every photograph."""
    for one in list_photographs():
        with Image.open(FOLDER / one.file) as image:
            yield Picture(one.name, KIND, image.convert("RGB"))
