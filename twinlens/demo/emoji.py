"""The system's colour emoji font: its location, its emoji, and an image of each by its CLDR name.

Bitmap fonts (Noto, Apple) have fixed sizes, so each size is tried in turn. The font has a character
if its image is neither blank nor equal to the image of an unassigned character.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

from twinlens.demo.picture import WHITE, Picture

NAMES = Path(__file__).with_name("emoji_names.json")  # CLDR's, by character
_SIZES = (109, 160, 136, 128, 96, 64)  # Noto's, Apple's, then round ones for scalable fonts
_FONTS = ("NotoColorEmoji", "Apple Color Emoji", "seguiemj", "TwitterColorEmoji", "JoyPixels")
_UNASSIGNED = "\U0010fffe"


class EmojiFont:
    """A colour emoji font that this build of FreeType can draw."""

    def __init__(self, path: Path) -> None:
        """Open the font; raise `OSError` if it cannot be read or draws no colour."""
        self.path = path
        self._font = _open(path)
        self._missing = self._render(_UNASSIGNED)
        probe = self._render("\N{DOG FACE}")
        if _is_blank(probe) or not _has_colour(probe):
            raise OSError(f"{path} draws no colour emoji here")

    def draw_all(self, side: int) -> Iterator[Picture]:
        """Yield an image of each emoji of the font, with its CLDR name."""
        for character, name in list_names().items():
            drawn = self._render(character)
            if not self._holds(drawn):
                continue
            yield Picture(name, "emoji", _frame(drawn, side), character)

    def _holds(self, drawn: Image.Image) -> bool:
        same = drawn.size == self._missing.size and not _differ(drawn, self._missing)
        return not _is_blank(drawn) and not same

    def _render(self, character: str) -> Image.Image:
        left, top, right, bottom = self._font.getbbox(character)
        width, height = max(1, round(right - left)), max(1, round(bottom - top))
        image = Image.new("RGB", (width, height), WHITE)
        place = (-left, -top)
        ImageDraw.Draw(image).text(place, character, "#000000", self._font, embedded_color=True)
        return image


def find_font() -> EmojiFont | None:
    """Return the first colour emoji font of this system that can be drawn."""
    for path in _list_files():
        try:
            return EmojiFont(path)
        except OSError:
            continue  # this build of FreeType cannot draw its format; try the next
    return None


@cache
def list_names() -> dict[str, str]:
    """Return what CLDR calls each emoji of one character ("red heart"), in code point order."""
    names: dict[str, str] = json.loads(NAMES.read_text(encoding="utf-8"))
    return names


def _list_files() -> list[Path]:
    """Return font files with names of known colour emoji fonts, best known first."""
    files = [path for folder in _folders() if folder.is_dir() for path in folder.rglob("*.tt[fc]")]
    found = [
        (rank, path) for path in files for rank, name in enumerate(_FONTS) if name in path.stem
    ]
    return [path for _, path in sorted(found)]


def _folders() -> list[Path]:
    """Return the font folders of this system."""
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"]
    shared = os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")
    folders = [Path(folder) / "fonts" for folder in shared if folder]
    return [*folders, home / ".local/share/fonts", home / ".fonts"]


def _open(path: Path) -> ImageFont.FreeTypeFont:
    error: OSError | None = None
    for size in _SIZES:
        try:
            return ImageFont.FreeTypeFont(str(path), size)  # `truetype` would search by name
        except OSError as wrong_size:
            error = wrong_size
    raise OSError(f"{path} cannot be opened at any of {_SIZES}: {error}")


def _frame(drawn: Image.Image, side: int) -> Image.Image:
    """Return the image centred on a white square."""
    edge = max(drawn.size)
    square = Image.new("RGB", (edge, edge), WHITE)
    square.paste(drawn, ((edge - drawn.width) // 2, (edge - drawn.height) // 2))
    return square.resize((side, side), Image.Resampling.LANCZOS)


def _is_blank(image: Image.Image) -> bool:
    return not _differ(image, Image.new("RGB", image.size, WHITE))


def _has_colour(image: Image.Image) -> bool:
    bands = image.split()
    return any(ImageChops.difference(bands[0], band).getbbox() for band in bands[1:])


def _differ(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is not None
